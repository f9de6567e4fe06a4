"""Canonical bytes: how values become bytes, and bytes become digests.

Put the row encoding, hashes, hash tables and digest trees here; they define every identity, so a change here changes
every digest. What a row means, and where it is stored, does not belong here.
Before it: `refold.types`. After it: logs, stores and proofs, which compare digests.
"""
