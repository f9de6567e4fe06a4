"""The log: landing objects sealed into immutable segments, cut by snapshots, deduplicated once for all stores."""
