"""Deduplication: which deliveries repeat an earlier event, and which conflict with it.

Put both ways to find repeats here: with the seen index, as sealing does, and again from the ids alone, as replay does.
The seen index itself belongs to `refold.seal`.
Before it: `refold.log`. After it: `refold.seal` and `refold.proof`.
"""
