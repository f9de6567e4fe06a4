"""Records: small JSON objects that contain the sha256 of their own body, so that reading them detects damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refold.errors import Damaged, NotFound
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex

_HEAD, _SUM, _END = b'{"body":', b',"sha256":"', b'"}'
_TAIL_BYTES = len(_SUM) + 64 + len(_END)


def write_record(objects: ObjectStore, name: str, body: Mapping[str, Any]) -> None:
    """Write a record whose name determines its content, so that a rerun writes the same bytes."""
    objects.put(name, record_bytes(body))


def record_bytes(body: Mapping[str, Any]) -> bytes:
    """The bytes of a record: its body and the sha256 of it."""
    return _framed(canonical_json(body))


def _framed(body: bytes) -> bytes:
    return b"".join((_HEAD, body, _SUM, sha256_hex(body).encode(), _END))


def read_record(objects: ObjectStore, name: str) -> dict[str, Any] | None:
    """The body of a record; None if it does not exist. Raises Damaged if it is not byte for byte what was written."""
    try:
        data = objects.get(name)
    except NotFound:
        return None
    return body_of(data, name)


def body_of(data: bytes, name: str) -> dict[str, Any]:
    """The body of a record's bytes. Raises Damaged as `read_record` does."""
    body = data[len(_HEAD) : -_TAIL_BYTES]
    try:
        found = json.loads(body) if _framed(body) == data else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Damaged(f"The record {name} is damaged: {_fault(data)}.")
    return found


def _fault(data: bytes) -> str:
    """What is wrong with bytes that are not a record."""
    if not data.strip(b"\0"):
        return "it has no content, as after a power cut. `refold repair` lists what can be dropped or made again"
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
            return "expected a body and its sha256, found neither"
        expected, found = value.get("sha256"), sha256_hex(canonical_json(value["body"]))
    except (ValueError, RecursionError) as error:  # also a number or text that JSON allows and records never contain
        return f"it is not JSON of a record: {error}"
    if expected != found:
        return f"it names the sha256 {expected}, and its content has {found}"
    return "its bytes are not those that Refold writes for its content"
