"""Base: threads, memory, progress, and compiled kernels kept between processes.

Put helpers here that know nothing of Refold: no log, no store, no object. Everything else may use them.
Before it: only `refold.errors`. After it: every other room.
"""
