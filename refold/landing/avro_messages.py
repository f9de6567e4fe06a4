"""Single Avro records after the id of their schema, as Confluent's serializers write them.

A message begins with a zero and the id as four bytes, high byte first. Schemas are declared by id: files in a folder,
each the schema itself (`7.avsc`) or what a schema registry answers (`curl $REGISTRY/schemas/ids/7 > schemas/7.json`).
No registry is requested while landing is read, so that what is read does not depend on it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from fastavro.schema import expand_schema

from refold.errors import DeclarationError, UnreadableObject
from refold.landing.avro import arrow_fields, plain_value
from refold.landing.contract import Finding
from refold.landing.framed import Message

_HEAD_BYTES = 5


@dataclass(frozen=True)
class AvroMessages:
    """Avro records in Confluent's wire format.

    Attributes:
        schemas: the text of each schema, by id; `schemas_in` reads a folder. Kept as `by_id`.

    Raises DeclarationError for a text that is no schema.
    """

    schemas: InitVar[Mapping[int, str]]
    by_id: tuple[tuple[int, str], ...] = field(init=False, default=())

    def __post_init__(self, schemas: Mapping[int, str]) -> None:
        object.__setattr__(self, "by_id", tuple(sorted(schemas.items())))
        faults = [f"schema {number}: {fault}" for number, text in self.by_id if (fault := _fault(text))]
        if faults or not schemas:
            raise DeclarationError("AvroMessages", faults or ["expected a schema"])

    def read(self, name: str, raw: bytes) -> Message | Finding:
        """One record; see `refold.landing.framed.Messages`."""
        if len(raw) < _HEAD_BYTES or raw[0]:
            return Finding("not-framed", f"Expected a zero and the id of a schema, found {raw[:_HEAD_BYTES].hex()}.")
        number, stream = int.from_bytes(raw[1:_HEAD_BYTES], "big"), io.BytesIO(raw)
        schema = _parsed(self).get(number)
        if schema is None:
            known = ", ".join(str(each) for each, _ in self.by_id)
            raise UnreadableObject(
                f"Expected messages of the schemas {known} in the object {name}, found the id {number}.",
                remedy=f"Add the schema {number} to AvroMessages; nothing of the object was sealed.",
            )
        stream.seek(_HEAD_BYTES)
        try:
            content = fastavro.schemaless_reader(stream, schema.parsed, None)
        except Exception as error:  # what damaged bytes raise is not documented
            return Finding(
                "not-avro", f"Expected a record of the schema {number}, found {type(error).__name__} {error}."
            )
        if stream.tell() != len(raw):
            return Finding("not-avro", f"Expected a record of the schema {number}, found bytes after it.")
        return Message(number, content)

    def schema(self, key: Any) -> pa.Schema:
        """The fields of a schema; see `refold.landing.framed.Messages`."""
        return _parsed(self)[key].fields

    def rows(self, contents: Sequence[Any], key: Any, wanted: pa.Schema) -> Iterable[Mapping[str, Any]]:
        """The records themselves."""
        return map(plain_value, contents) if _parsed(self)[key].has_uuid else contents


def schemas_in(folder: Path | str) -> dict[int, str]:
    """The schemas in a folder by id: files `<id>.avsc`, or `<id>.json` with the answer of a registry.

    Raises:
        DeclarationError: a file that is neither, or an answer with references, which are not looked up.
    """
    found, faults = dict[int, str](), list[str]()
    for path in sorted(Path(folder).iterdir()):
        if path.suffix not in (".avsc", ".json"):
            continue
        text = path.read_text(encoding="utf-8")
        try:
            value = json.loads(text)
        except ValueError as error:
            faults.append(f"{path.name}: {error}")
            continue
        answer = value if isinstance(value, dict) and isinstance(value.get("schema"), str) else {}
        if not path.stem.isdigit() or int(path.stem) in found:
            faults.append(f"{path.name}: expected one file for each id of a schema, such as 7.avsc")
        elif answer.get("references") or answer.get("schemaType", "AVRO") != "AVRO":
            faults.append(f"{path.name}: expected one whole Avro schema, found references or another type")
        else:
            found[int(path.stem)] = answer.get("schema", text)
    if faults:
        raise DeclarationError(f"The schemas in {folder}", faults)
    return found


@dataclass(frozen=True)
class _Parsed:
    parsed: Any
    fields: pa.Schema
    has_uuid: bool


@cache
def _parsed(messages: AvroMessages) -> Mapping[int, _Parsed]:
    return {
        number: _Parsed(
            fastavro.parse_schema(json.loads(text)),
            pa.schema(arrow_fields(expand_schema(json.loads(text)))),
            '"uuid"' in text,
        )
        for number, text in messages.by_id
    }


def _fault(text: str) -> str | None:
    try:
        schema = fastavro.parse_schema(json.loads(text))
    except Exception as error:  # what is not a schema raises many kinds
        return f"{type(error).__name__} {error}"
    return None if isinstance(schema, dict) and schema.get("type") == "record" else "expected a record"
