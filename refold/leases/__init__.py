"""Leases: who seals, prunes and publishes, and fencing tokens that keep a holder that was paused from writing.

`register` is the seam: named values with compare-and-swap, in the object store or a database. `lease` is what is kept
there and how it changes, as pure functions; `leases` takes, renews, commits and gives up; `fenced_store` holds the
writes of an object store to the tokens. Comes after the sinks, whose database it uses; before the log. Without
leases the platform is as correct: its commits are write-once. They keep processes from doing the same work twice, and
protect deletes and writes to sinks.
"""
