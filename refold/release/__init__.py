"""Release: proven states published to sinks, and the pointer that moves all readers to one snapshot.

Put publishing, the pointer, rollback, reading a release, and retention of old versions here. How one kind of sink
stores a version belongs to `refold.sinks`.
Before it: `refold.proof` and `refold.sinks`. After it: readers.
"""
