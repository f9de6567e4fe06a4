"""The class that a rule's second parameter may be annotated with, for editors and type checkers.

It has no effect on folding and is not in the fingerprint; its fields are compared with the columns of the log, so that
what an editor completes is what an event has.
"""

from __future__ import annotations

import typing

from refold.rules.source import Source
from refold.rules.values import python_type
from refold.types import Schema


def event_faults(source: Source, columns: Schema) -> list[str]:
    """What is wrong with the annotation of a rule's event: fields that no event has, or of another type.

    A class need not name all columns. Without an annotation, or with one without fields, there is nothing to compare.
    """
    name = source.parameters[1]
    annotation = source.function.__annotations__.get(name)
    if annotation is None:
        return []
    try:
        found = eval(annotation, source.names) if isinstance(annotation, str) else annotation
        hints = typing.get_type_hints(found, localns=source.names) if isinstance(found, type) else {}
    except Exception as error:  # an annotation can be any expression, and raise anything
        return [f"the annotation of {name} cannot be read ({error}); define its class before the rule."]
    faults = []
    for field, hint in hints.items():
        if field not in columns:
            faults.append(f"the field {field} of {found.__name__} is not a column; the log has {', '.join(columns)}.")
        elif hint != python_type(columns[field]):
            expected = _shown(python_type(columns[field]))
            faults.append(f"the field {field} of {found.__name__} is {_shown(hint)}; expected {expected}.")
    return faults


def _shown(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
