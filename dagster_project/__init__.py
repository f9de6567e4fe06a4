"""This project's code location: what Dagster loads."""
