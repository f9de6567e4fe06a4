"""Incremental relations: built from snapshot to snapshot by what changed, and proven at all of them in linear time.

`inputs` follows what relations read, `run` maintains one relation, and `history` visits the snapshots. How a query is
maintained is decided in `refold.stores.incremental_query`. Before this package comes `refold.proof`, which compares a
relation whole; after it `refold.engine`.
"""
