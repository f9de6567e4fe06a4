"""URLs of stores and databases: the local paths that they mean, and how they are shown without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_plus, unquote_to_bytes, urlsplit

from refold.errors import FixInput

_NAMED = ("postgres", "abfs", "adl")
"""Schemes in which a single word before an @ is the name of a user or container, and not a token."""

_SECRET = re.compile(r"(?is)([\w.%-]*(?:pass|pwd|secret|token|sig|sas|credential|key|auth)[\w.%-]*=)(.*)")

_ADDRESS = re.compile(r"(AWS|AZURE|GOOGLE)_\w*(ENDPOINT|URL|PROXY)\w*")


def mask_url(url: str) -> str:
    """The URL with passwords, lone tokens and secret query values replaced by `***`, safe to show.

    It hides too much rather than too little: everything after a user's colon up to the last @.

    >>> mask_url("postgresql://ann:hunter2@db/shop?sslpassword=x&connect_timeout=3")
    'postgresql://ann:***@db/shop?sslpassword=***&connect_timeout=3'
    >>> mask_url("postgresql://ann@db/shop"), mask_url("https://token@host/x"), mask_url("sqlite:////tmp/x.db")
    ('postgresql://ann@db/shop', 'https://***@host/x', 'sqlite:////tmp/x.db')
    """
    place = re.split("[?#]", url, maxsplit=1)[0]
    shown = place + "&".join(_without_secret(pair) for pair in url[len(place) :].split("&"))
    scheme, mark, rest = shown.partition("://")
    return scheme + mark + _without_userinfo(scheme, rest) if mark else shown


def _without_secret(pair: str) -> str:
    name, mark, value = pair.partition("=")
    if mark and _SECRET.search(unquote_plus(name) + mark):
        return f"{name}={_hidden(value)}"
    return _SECRET.sub(lambda found: found[1] + _hidden(found[2]), pair)


def _hidden(value: str) -> str:
    # What looks like a query can be part of a password; its @ stays, so that all before it is hidden with it.
    return "@***" if "@" in value else "***"


def _without_userinfo(scheme: str, rest: str) -> str:
    named = scheme.lower().startswith(_NAMED)
    found = re.match(r"(?s)([^:/]*):.*@", rest)
    if found:
        user = found[1] if named or "@" not in found[1] else "***"
        return f"{user}:***@{rest[found.end() :]}"
    return rest if named else re.sub(r"^[^/]*@", "***@", rest)


def require_ports(environ: Mapping[str, str]) -> None:
    """Raises FixInput where the address of an object store has a port that is not one; the library would panic."""
    for name, url in sorted(environ.items()):
        if _ADDRESS.fullmatch(name.upper()):
            try:
                _ = urlsplit(url).port
            except ValueError as error:
                raise FixInput(
                    f"{name}={mask_url(url)} is not an address: {error}.", remedy="Check the port."
                ) from None


def local_path(url: str) -> Path | None:
    """The absolute path of a plain path or a `file:` URL; None for the URL of a remote store.

    A plain path is used as it is; a URL is percent-decoded.

    >>> local_path("file:///tmp/two%20words/"), local_path("s3://bucket/store")
    (PosixPath('/tmp/two words'), None)

    Raises:
        FixInput: it is a file URL with another host, a relative path or a query, or it cannot be a path.
    """
    try:
        if url.lower().startswith("file:"):
            path = Path(_path_of_file_url(url))
        elif "://" in url:
            return None
        else:
            path = Path(url).expanduser()
        resolved = path.resolve()
        os.fsencode(resolved).decode()
    except (OSError, RuntimeError, ValueError) as error:
        remedy = "Give an absolute path, in UTF-8."
        raise FixInput(f"Expected the path of a folder, found {mask_url(url)!r}: {error}.", remedy=remedy) from None
    return resolved


def _path_of_file_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc.lower() not in ("", "localhost") or not parts.path.startswith("/") or re.search(r"[?#\t\r\n]", url):
        raise FixInput(
            f"Expected a local folder as file:///absolute/path, found {mask_url(url)}.",
            remedy="Give a path of this machine, with %23 for # and %3F for ?, or a plain path without file://.",
        )
    return os.fsdecode(unquote_to_bytes(parts.path))
