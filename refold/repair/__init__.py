"""Repair: find stored objects and sinks that are damaged, and make them again.

Put audits, drift, repair and the removal of unreferenced objects here. Whether a fold was right is decided in
`refold.proof`.
Before it: `refold.release`. After it: the engine.
"""
