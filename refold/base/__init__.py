"""Base: threads, memory and progress.

Put helpers here that know nothing of Refold: no log, no store, no object. Everything else may use them.
Before it: only `refold.errors`. After it: every other room.
"""
