"""Names that sinks give: versions, and the folders of Delta tables, bulk exports and records of sinks."""

from __future__ import annotations

import re


def version_name(ordinal: int, claim_sha256: str) -> str:
    """The name of a version in the sinks, by the ordinal of its snapshot and the claim that is proven of it."""
    return f"{ordinal:06d}-{claim_sha256[:12]}"


def ordinal_of(version: str) -> int | None:
    """The ordinal of a version's snapshot; None for a name that Refold does not give.

    >>> ordinal_of("000012-0123456789ab"), ordinal_of("latest")
    (12, None)
    """
    found = re.fullmatch(r"(\d{6,})-[0-9a-f]{12}", version, re.ASCII)
    return int(found[1]) if found else None


def delta_folder(table: str) -> str:
    """The folder of a Delta table."""
    return f"delta/{table}"


def bulk_folder(index: str) -> str:
    """The folder of an index's bulk exports."""
    return f"search/bulk/{index}"


def sink_records_folder(kind: str, name: str) -> str:
    """The folder in which a sink keeps records, by its kind and name."""
    return f"sinks/{kind}/{name}"
