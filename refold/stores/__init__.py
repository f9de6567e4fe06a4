"""Derived stores: their declarations, and the state, ledger and checkpoints that building them gives.

Put kinds of stores, folding and checkpoints here. Checking a state against full replay belongs to `refold.proof`, and
where readers find it to `refold.sinks` and `refold.release`.
Before it: `refold.log` and `refold.rules`. After it: `refold.proof`.
"""
