"""The log: its declaration, snapshots, layouts and segments, and how to read, verify and compact them.

Put what a sealed log is here. How landing becomes a sealed log is `refold.seal`; which events repeat others is
`refold.dedup`.
Before it: `refold.landing` and `refold.storage`. After it: `refold.dedup`, `refold.seal` and the stores that fold it.
"""
