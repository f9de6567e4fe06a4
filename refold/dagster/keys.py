"""Names in Dagster: asset keys, check names, code versions."""

from dataclasses import asdict, is_dataclass

import dagster as dg

from refold.errors import DeclarationError
from refold.landing.decoder import Decoder
from refold.landing.layout import Layout
from refold.log.declaration import Log
from refold.release.pointer import Release
from refold.sinks.base import Sink
from refold.storage.objects import canonical_json, sha256_hex
from refold.stores.declaration import Store

RELEASE_KEY, RELEASE_CODE = dg.AssetKey("release"), "1"
STRUCTURE, LANDING, FULL_REPLAY = "structure", "landing", "full_replay"
EXPECTATIONS, SERVED, ORDER, WHOLE = "expectations", "served", "order", "source_offsets"


def log_key(log: Log) -> dg.AssetKey:
    """`log/<name>`."""
    return dg.AssetKey(["log", log.name])


def state_key(store: Store) -> dg.AssetKey:
    """`state/<name>`."""
    return dg.AssetKey(["state", store.name])


def asset_key(one: Store | Log) -> dg.AssetKey:
    """The asset of a log or of a store's state."""
    return log_key(one) if isinstance(one, Log) else state_key(one)


def sink_key(sink: Sink) -> dg.AssetKey:
    """`sql/<table>`, `delta/<table>` or `search/<index>`."""
    return dg.AssetKey([sink.kind, sink.name])


def sink_groups(store: Store) -> dict[dg.AssetKey, list[Sink]]:
    """A store's sinks by asset: sinks of the same kind and name are published together."""
    groups: dict[dg.AssetKey, list[Sink]] = {}
    for sink in store.sinks:
        groups.setdefault(sink_key(sink), []).append(sink)
    return groups


def checked_sink(store: Store) -> dg.AssetKey | None:
    """The asset that shows a store's expectations: its first sink; None where it has no sink or expects nothing."""
    return next(iter(sink_groups(store)), None) if store.expect else None


def input_keys(store: Store) -> list[dg.AssetKey]:
    """The assets a store is computed from, each once: the state for a ledger, the log for its events."""
    return [asset_key(each) for each in store.computed_from]


def log_code_version(log: Log) -> str:
    """Changes with the declaration of the log: columns, key, event id, log partitions, decoder, layout."""
    landing = [_declared(log.decoder), _declared(log.layout)]
    identity = [names[0] if len(names) == 1 else list(names) for names in (log.key_columns, log.id_columns)]
    return sha256_hex(canonical_json([log.content, *identity, log.partitions, *landing]))[:12]


def _declared(part: Decoder | Layout) -> list[object]:
    """The class of a decoder or layout and the values of its fields. Raises DeclarationError without such fields."""
    kind = f"{type(part).__module__}.{type(part).__qualname__}"
    if not is_dataclass(part):
        raise DeclarationError(kind, ["expected a dataclass, whose fields are all that it does depends on"])
    return [kind, asdict(part)]


def served_version(store: Store, served: Release | None) -> str:
    """The data version of what a store's sinks serve: as of one that was published, or `unserved`."""
    return served.digests.get(store.name, "unserved")[:20] if served is not None else "unserved"


def release_version(served: Release) -> str:
    """The data version of the release: its number and what it serves."""
    return f"{served.number}-{served.snapshot_id[:12]}"
