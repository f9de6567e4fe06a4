"""Sealing: from landing objects to a write-once snapshot of every log.

Put reading and decoding landing, assigning offsets, and the seen index here. What a snapshot contains is defined in
`refold.log`; formats and folders of landing in `refold.landing`.
Before it: `refold.landing`, `refold.log`, `refold.dedup`. After it: `refold.stores` folds what was sealed.
"""
