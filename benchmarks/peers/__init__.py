"""Other tools that compute the same answer from the same Parquet, each as well tuned as its documentation tells.

The work: read the four needed columns, leave out every event whose id was seen before, apply the rest in order per
key, refuse removals that would go below zero; levels and counts out. Each module holds a `PROGRAM`.
"""
