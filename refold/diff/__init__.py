"""Diff: what changed declarations would change in rows and outcomes, computed in a shadow.

Put the comparison of two versions of a project here. Nothing here is stored or served.
Before it: the engine. After it: the command line.
"""
