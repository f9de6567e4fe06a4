"""Plan: what a rebuild would do and why, and how long it would take, before it does anything.

Put decisions, the work they cause, measured rates and forecasts here. Every decision is asked of the part that takes
it. Before it: the engine. After it: the command line and Dagster.
"""
