"""How fast Refold is beside merely reading the log, and beside other tools that compute the same answer.

`generate` makes the log and `dataset` its files, `peers` are the other tools, `adapter` is Refold and `ours` what is
timed of it; `measures` says what is run beside what, `run` runs it in turns and `report` writes `docs/benchmarks.md`.
Nothing here is in the wheel, and no test looks at a time.
"""
