"""Plan: what a rebuild would do and why, and how long it would take, before it does anything.

Put decisions, the work they cause, recorded runs, rates and forecasts here. Every decision comes from the code that
takes it in a rebuild. Before it: the engine. After it: the command line and Dagster.
"""
