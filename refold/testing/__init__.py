"""Tools for users to test their own stores and sinks.

`assert_replay_equal` is the one test a new store needs. Import the other modules yourself, since they need packages
that Refold does not: `refold.testing.strategies` Hypothesis, `refold.testing.sink_conformance` pytest. An object store
that fails, lags or lies on command is in `refold.testing.faulty_store`.
"""

from refold.testing.replay_equal import assert_replay_equal

__all__ = ["assert_replay_equal"]
