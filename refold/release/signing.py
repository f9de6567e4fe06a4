"""Ed25519 signatures of anchor entries, with a key that is kept outside the store.

The key is a PEM file: the private key where releases are made, the public key where they are only verified, as written
by `openssl genpkey -algorithm ed25519 -out key.pem` and `openssl pkey -in key.pem -pubout -out public.pem`.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from refold.errors import FixInput


class Key:
    """A key that verifies, and signs where it is the private one."""

    def __init__(self, public: Ed25519PublicKey, private: Ed25519PrivateKey | None, path: Path) -> None:
        self._public = public
        self._private = private
        self._path = path

    @classmethod
    def read(cls, path: Path) -> Key:
        """The key of a PEM file. Raises FixInput where it is none."""
        try:
            data = path.read_bytes()
            private = load_pem_private_key(data, None) if b"PRIVATE KEY" in data else None
            public = load_pem_public_key(data) if private is None else private.public_key()
        except (OSError, ValueError, TypeError) as error:
            raise _refused(path, str(error)) from error
        if not isinstance(public, Ed25519PublicKey):
            raise _refused(path, f"a key of another kind, {type(public).__name__}")
        return cls(public, private if isinstance(private, Ed25519PrivateKey) else None, path)

    def sign(self, data: bytes) -> str:
        """The signature, as hexadecimal digits. Raises FixInput where this is the public key."""
        if self._private is None:
            raise FixInput(f"{self._path} is a public key; releases are signed with the private one.")
        return self._private.sign(data).hex()

    def holds(self, data: bytes, signature: object) -> bool:
        """Whether a signature is that of some bytes."""
        try:
            self._public.verify(bytes.fromhex(str(signature)), data)
        except (InvalidSignature, ValueError):
            return False
        return True


def _refused(path: Path, found: str) -> FixInput:
    return FixInput(
        f"Expected an Ed25519 key in PEM, without a password, in {path}, found: {found}.",
        remedy="Correct REFOLD_ANCHOR_KEY, or make one with `openssl genpkey -algorithm ed25519`.",
    )
