"""Records: small JSON objects that carry the sha256 of their own body, so that damage is seen when they are read."""

from __future__ import annotations

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
    """The body of a record; None where there is none. Raises Damaged where it is not what was written."""
    try:
        value = objects.get_json(name)
    except NotFound:
        return None
    body = value.get("body") if isinstance(value, dict) else None
    if not isinstance(body, dict) or value.get("sha256") != sha256_hex(canonical_json(body)):
        raise Damaged(f"The record {name} is damaged: its content does not have the sha256 it names.")
    return body
