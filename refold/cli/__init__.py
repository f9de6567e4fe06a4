"""The command line: click for commands, rich for tables.

Put arguments, output and exit codes here; all work belongs to the rooms below.
Before it: the engine and every room it wires. After it: people and scripts.
"""
