"""Base: threads, memory, progress, kernels kept between processes, how text from outside is shown, readings of values.

Put helpers here that know nothing of Refold: no log, no store, no object. Everything else may use them.
Before it: nothing. After it: every other room.
"""
