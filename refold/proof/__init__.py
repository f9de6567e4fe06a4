"""Proof: is a stored state equal to full replay, and where it is not, which is the first wrong offset?

Put replay, the reference fold, proof records and the search for the first difference here. Repairing what differs
belongs to `refold.repair`.
Before it: `refold.stores`. After it: `refold.release` publishes only what has a proof.
"""
