"""Landing: the raw files that another tool writes, and how to read them.

Put landing layouts (which objects, of which day and log partition, in which order) and decoders (bytes to rows and bad
records) here. Offsets, deduplication and snapshots belong to `refold.seal`. Before it: `refold.types` and
`refold.storage`. After it: `refold.log` declares a log with a decoder; `refold.seal` reads it.
"""
