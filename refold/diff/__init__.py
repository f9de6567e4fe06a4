"""Comparing two rules before release: each folds the same sealed log in a shadow, and nothing is stored or served."""
