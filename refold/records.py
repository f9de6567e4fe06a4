"""Records: small JSON objects that carry the sha256 of their own body, so that damage is seen when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refold.errors import Damaged, NotFound
from refold.storage import ObjectStore, canonical_json, sha256_hex


def write_record(objects: ObjectStore, name: str, body: Mapping[str, Any]) -> None:
    """Write a record whose name determines its content, so that a rerun writes the same bytes."""
    objects.put(name, record_bytes(body))


def record_bytes(body: Mapping[str, Any]) -> bytes:
    """The bytes of a record: its body and the sha256 of it."""
    return canonical_json({"body": body, "sha256": sha256_hex(canonical_json(body))})


def read_record(objects: ObjectStore, name: str) -> dict[str, Any] | None:
    """The body of a record; None where there is none. Raises Damaged where it is not byte for byte what was written."""
    try:
        data = objects.get(name)
    except NotFound:
        return None
    return body_of(data, name)


def body_of(data: bytes, name: str) -> dict[str, Any]:
    """The body of a record's bytes. Raises Damaged as `read_record` does."""
    try:
        value = json.loads(data)
        body = value.get("body") if isinstance(value, dict) else None
        again = record_bytes(body) if isinstance(body, dict) else b""
    except ValueError as error:
        raise Damaged(f"The record {name} is damaged: it is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise Damaged(f"The record {name} is damaged: expected a body and its sha256, found neither.")
    expected, found = value.get("sha256"), sha256_hex(canonical_json(body))
    if expected != found:
        raise Damaged(f"The record {name} is damaged: it names the sha256 {expected}, and its content has {found}.")
    if data != again:
        raise Damaged(f"The record {name} is damaged: its bytes are not those that Refold writes for its content.")
    return body
