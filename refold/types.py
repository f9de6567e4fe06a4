"""Column types: the few that a log or a store may hold, and how they map to Arrow.

This module says what a type is and which values it admits. `refold.canonical.encoding` defines how values become
bytes, and each sink how it stores them. Floating point exists only as `ratio()`, the final result of a division,
because sums of floats depend on their order.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refold.base.reading import USUAL, Encoding, Epoch, Nanoseconds, Reading, is_zone
from refold.errors import DeclarationError, FixInput

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class ColumnKind(StrEnum):
    """The kinds of column types; their texts enter digests and stored schemas."""

    INT64 = "int64"
    TEXT = "text"
    ENUM = "enum"
    DECIMAL = "decimal"
    DATE = "date"
    TIMESTAMP = "timestamp"
    BOOLEAN = "boolean"
    BINARY = "binary"
    RATIO = "ratio"
    VERSION_VECTOR = "versionvector"


@dataclass(frozen=True)
class ColumnType:
    """One column's type and the values it admits.

    Attributes:
        kind: what its values are.
        null: whether it may be null.
        minimum, maximum: the bounds of an int64, both inclusive; None for the type's own. The maximum of a version
            vector is the most producers that one may name.
        precision, scale: the digits of a decimal, and how many of them are after the point.
        empty: whether a text may be empty.
        choices: the members of an enum.
        reading: how landing writes its values. Like bounds and members it is not part of a log's identity: what is
            sealed stays.
        description: what its values mean, for people; "" where nothing is said. It changes nothing else.
    """

    kind: ColumnKind
    null: bool = False
    minimum: int | None = None
    maximum: int | None = None
    precision: int | None = None
    scale: int | None = None
    empty: bool = True
    choices: type[Enum] | None = None
    reading: Reading = USUAL
    description: str = field(default="", compare=False)

    def described(self, text: str) -> ColumnType:
        """This type with a sentence on what the column's values mean, which Dagster and the documentation show.

        >>> int64(1).described("How many units moved.").description
        'How many units moved.'
        """
        return replace(self, description=text)

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in segments, states and results."""
        if self.kind is ColumnKind.DECIMAL:
            assert self.precision is not None and self.scale is not None
            return pa.decimal128(self.precision, self.scale)
        return _ARROW[self.kind]

    @property
    def values(self) -> tuple[str, ...]:
        """The texts an enum column admits, in declared order; empty for other kinds."""
        return tuple(member_text(m) for m in self.choices) if self.choices is not None else ()

    def __str__(self) -> str:
        name = f"decimal({self.precision}, {self.scale})" if self.kind is ColumnKind.DECIMAL else self.kind
        return f"{name}?" if self.null else name


_ARROW: Mapping[ColumnKind, pa.DataType] = {
    ColumnKind.INT64: pa.int64(),
    ColumnKind.TEXT: pa.string(),
    ColumnKind.ENUM: pa.string(),
    ColumnKind.DATE: pa.date32(),
    ColumnKind.TIMESTAMP: pa.timestamp("us", "UTC"),
    ColumnKind.BOOLEAN: pa.bool_(),
    ColumnKind.BINARY: pa.binary(),
    ColumnKind.RATIO: pa.float64(),
    ColumnKind.VERSION_VECTOR: pa.string(),
}


def member_text(member: Enum) -> str:
    """The text by which an enum member appears in landing: its value if that is text, else its lower-case name.

    >>> class Movement(Enum):
    ...     ADD = 1
    >>> member_text(Movement.ADD)
    'add'
    """
    return member.value if isinstance(member.value, str) else member.name.lower()


def int64(
    minimum: int = INT64_MIN,
    maximum: int = INT64_MAX,
    *,
    null: bool = False,
    quoted: bool = False,
    default: int | None = None,
) -> ColumnType:
    """A 64-bit signed integer between `minimum` and `maximum`, both inclusive.

    Args:
        null: whether it may be null; so for all types.
        quoted: landing may also write it as a text of its digits.
        default: the value where a record has null or nothing; so for all types. Raises DeclarationError if it is none.
    """
    reading = Reading(encoding=Encoding.QUOTED if quoted else None, default=default)
    return _checked(ColumnType(ColumnKind.INT64, null=null, minimum=minimum, maximum=maximum, reading=reading))


def text(*, null: bool = False, empty: bool = True, default: str | None = None) -> ColumnType:
    """UTF-8 text, compared byte for byte. `empty=False` forbids the empty string."""
    return _checked(ColumnType(ColumnKind.TEXT, null=null, empty=empty, reading=Reading(default=default)))


def enum(choices: type[Enum], *, null: bool = False, default: Enum | None = None) -> ColumnType:
    """One of the members of `choices`; anything else is quarantined as an unknown value."""
    reading = Reading(default=None if default is None else member_text(default))
    return ColumnType(ColumnKind.ENUM, null=null, choices=choices, reading=reading)


def decimal(
    precision: int, scale: int, *, null: bool = False, encoding: str | None = None, default: Decimal | None = None
) -> ColumnType:
    """An exact decimal with `precision` digits, `scale` of them after the point (at most 38).

    Args:
        encoding: `base64` where landing writes the unscaled value, of the scale that is declared here, in base64;
            `scaled` where it writes an object of a scale and such a value. By default numbers, or texts of numbers.
    """
    if encoding not in (None, Encoding.BASE64, Encoding.SCALED):
        raise DeclarationError("decimal(...)", [f"encoding is {encoding!r}; expected 'base64' or 'scaled'"])
    reading = Reading(encoding=None if encoding is None else Encoding(encoding), default=default)
    return _checked(ColumnType(ColumnKind.DECIMAL, null=null, precision=precision, scale=scale, reading=reading))


def date(*, null: bool = False, epoch: str | None = None, default: dt.date | None = None) -> ColumnType:
    """A calendar day. With `epoch="days"` landing writes it as the number of days since 1970."""
    if epoch not in (None, Epoch.DAYS):
        raise DeclarationError("date(...)", [f"epoch is {epoch!r}; expected 'days'"])
    reading = Reading(epoch=None if epoch is None else Epoch.DAYS, default=default)
    return _checked(ColumnType(ColumnKind.DATE, null=null, reading=reading))


def timestamp(
    *,
    null: bool = False,
    zone: str | None = None,
    nanoseconds: str = "refuse",
    epoch: str | None = None,
    default: dt.datetime | None = None,
) -> ColumnType:
    """An instant in UTC, in microseconds. By default landing writes it as a text with `Z` or an offset.

    Args:
        zone: the zone of texts without one: `UTC`, an offset such as `+02:00`, or a name such as `Europe/Berlin`. A
            local time that such a zone has twice or never, as clocks are changed, is quarantined.
        nanoseconds: `truncate` leaves out digits after the sixth; `refuse` quarantines them where they are not zeros.
        epoch: landing writes integers since 1970: of `s`, `ms`, `us` or `ns`.

    >>> describe({"at": timestamp(zone="Europe/Berlin")})
    'at timestamp'

    Raises DeclarationError, listing all faults.
    """
    faults = []
    if zone is not None and epoch is not None:
        faults.append("zone is of texts, and epoch of integers: declare one of them")
    if zone is not None and Reading(zone).offset is None and not is_zone(zone):
        faults.append(f"zone is {zone!r}; expected UTC, an offset such as +02:00, or a name such as Europe/Berlin")
    if nanoseconds not in [*Nanoseconds]:
        faults.append(f"nanoseconds is {nanoseconds!r}; expected {' or '.join(Nanoseconds)}")
    if epoch is not None and epoch not in _UNITS:
        faults.append(f"epoch is {epoch!r}; expected one of {', '.join(_UNITS)}")
    if faults:
        raise DeclarationError("timestamp(...)", faults)
    unit = None if epoch is None else Epoch(epoch)
    reading = Reading(zone, Nanoseconds(nanoseconds), unit, default=default)
    return _checked(ColumnType(ColumnKind.TIMESTAMP, null=null, reading=reading))


_UNITS = (Epoch.SECONDS, Epoch.MILLISECONDS, Epoch.MICROSECONDS, Epoch.NANOSECONDS)


def _checked(column: ColumnType) -> ColumnType:
    """The column. Raises DeclarationError where its default is not a value of its type."""
    default = column.reading.default
    try:
        fits = default is None or pa.scalar(default, column.arrow).as_py() == default
    except (pa.ArrowException, TypeError, ValueError):
        fits = False
    if not fits:
        raise DeclarationError(f"{column.kind}(...)", [f"default is {default!r}; expected a value of {column}"])
    return column


def boolean(
    *, null: bool = False, true: Sequence[str] = (), false: Sequence[str] = (), default: bool | None = None
) -> ColumnType:
    """True or false.

    Args:
        true: what landing writes for it instead of JSON's literal, such as `("1", "Y")`: texts, or digits of integers.
        false: likewise, such as `("0", "N")`. Raises DeclarationError unless both are given, or neither, without
            common members.

    >>> boolean(true=["1"], false=["0", "1"])
    Traceback (most recent call last):
        ...
    refold.errors.DeclarationError: boolean(...) cannot be used as declared:
      - true and false both have '1'
    """
    faults = [f"true and false both have {word!r}" for word in true if word in false]
    if bool(true) != bool(false):
        faults.append("expected texts for both, true and false, or for neither")
    if isinstance(true, str) or isinstance(false, str):
        faults.append("expected true and false as tuples of texts, found a text")
    if faults:
        raise DeclarationError("boolean(...)", faults)
    reading = Reading(true=tuple(true), false=tuple(false), default=default)
    return _checked(ColumnType(ColumnKind.BOOLEAN, null=null, reading=reading))


def binary(*, null: bool = False) -> ColumnType:
    """Bytes."""
    return ColumnType(ColumnKind.BINARY, null=null)


def version_vector(*, producers_max: int = 64, null: bool = False) -> ColumnType:
    """A version vector: how many writes of each producer a write has seen, its own among them.

    Landing writes it as a JSON object of counters from 1 by producer, or as the text of one; it is kept as that text
    with the producers in the order of their bytes: `{"a":3,"b":1}`. One that names more than `producers_max`
    producers is quarantined. `refold.stores.kinds.versions` compares them.

    Raises DeclarationError.
    """
    if producers_max < 1:
        raise DeclarationError("version_vector(...)", [f"producers_max is {producers_max}; expected 1 or more"])
    return ColumnType(ColumnKind.VERSION_VECTOR, null=null, maximum=producers_max)


def ratio(*, null: bool = True) -> ColumnType:
    """A 64-bit float that is the last step of a computation; never sum it, or compare it for equality."""
    return ColumnType(ColumnKind.RATIO, null=null)


Schema = Mapping[str, ColumnType]

_COLUMN = re.compile(r"([a-z0-9]+)(?:\((\d+), (\d+)\))?(\?)?")
_DESCRIBED = re.compile(r"(.*) ([a-z0-9]+(?:\(\d+, \d+\))?\??)", re.DOTALL)


def arrow_schema(columns: Schema) -> pa.Schema:
    """The Arrow schema of declared columns, in their declared order."""
    return pa.schema([pa.field(name, column.arrow, nullable=column.null) for name, column in columns.items()])


def describe(columns: Schema) -> str:
    """One line per column, `name type`; digests and fingerprints contain this text.

    >>> describe({"level": int64(), "country": text(null=True)})
    'level int64\\ncountry text?'
    """
    return "\n".join(f"{name} {column}" for name, column in columns.items())


def parse_column(text: str) -> ColumnType:
    """The type that `str(ColumnType)` wrote; it does not include bounds and choices.

    >>> parse_column("decimal(18, 4)?") == ColumnType(ColumnKind.DECIMAL, null=True, precision=18, scale=4)
    True

    Raises FixInput.
    """
    found = _COLUMN.fullmatch(text)
    if found is not None and (found[1] == "decimal") == (found[2] is not None):
        kind, precision, scale, null = found.groups()
        digits = (int(precision), int(scale)) if precision else (None, None)
        with suppress(ValueError):
            return ColumnType(ColumnKind(kind), null=null is not None, precision=digits[0], scale=digits[1])
    raise FixInput(f"The column type {text!r} is not one of this Refold's.", remedy="Read it with a newer one.")


def holds_all_of(column: ColumnType, former: ColumnType) -> bool:
    """Whether every value of a former type is one of a type, unchanged, by what their texts say.

    >>> holds_all_of(decimal(12, 2, null=True), decimal(10, 2)), holds_all_of(decimal(12, 4), decimal(10, 2))
    (True, False)
    """
    if (column.kind, column.scale) != (former.kind, former.scale):
        return False
    return (column.precision or 0) >= (former.precision or 0) and (column.null or not former.null)


def parse_schema(text: str) -> Schema:
    """The columns that `describe` wrote, with what types say there. Raises FixInput.

    >>> list(parse_schema("level int64\\nunit price decimal(18, 4)?"))
    ['level', 'unit price']
    """
    columns = {}
    for line in text.split("\n") if text else ():
        found = _DESCRIBED.fullmatch(line)
        if found is None:
            raise FixInput(f"{line!r} does not describe a column.", remedy="Name columns without line ends.")
        columns[found[1]] = parse_column(found[2])
    return columns


def matching(column: pa.ChunkedArray, wanted: str, declared: ColumnType) -> pa.ChunkedArray:
    """Which values of a column equal one that is given as text: binary as hexadecimal digits, null as "".

    Raises FixInput if the text is not a value of the type.

    >>> matching(pa.chunked_array([[7, None, 8]]), "8", int64()).to_pylist()
    [False, False, True]
    """
    try:
        value = bytes.fromhex(wanted) if declared.kind is ColumnKind.BINARY else pa.scalar(wanted).cast(declared.arrow)
    except (ValueError, pa.ArrowInvalid) as error:
        if wanted == "":
            return pc.is_null(column)
        raise FixInput(f"Expected a value of type {declared}, found {wanted!r}: {error}.") from error
    return pc.fill_null(pc.equal(column, value), wanted == "")


_PYTHON: Mapping[type, ColumnType] = {
    int: ColumnType(ColumnKind.INT64, minimum=INT64_MIN, maximum=INT64_MAX),
    str: ColumnType(ColumnKind.TEXT),
    bool: ColumnType(ColumnKind.BOOLEAN),
    bytes: ColumnType(ColumnKind.BINARY),
    dt.datetime: ColumnType(ColumnKind.TIMESTAMP),
    dt.date: ColumnType(ColumnKind.DATE),
}


def from_annotation(annotation: Any) -> ColumnType | None:
    """The column type of a Python annotation such as `int` or `str | None`; None if it has none.

    `Decimal` does not determine a scale and must be declared with `decimal(p, s)`.

    >>> str(from_annotation(int | None))
    'int64?'
    """
    members = getattr(annotation, "__args__", None)
    if members is not None and type(None) in members and len(members) == 2:
        inner = from_annotation(next(m for m in members if m is not type(None)))
        return replace(inner, null=True) if inner is not None else None
    if isinstance(annotation, ColumnType):
        return annotation
    return _PYTHON.get(annotation) if annotation is not Decimal else None
