"""Explanations: which events are behind a value, and how a store is computed.

Put read-only answers for people here; nothing is decided by them.
Before it: `refold.stores`. After it: the command line and Dagster show them.
"""
