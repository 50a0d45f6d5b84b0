"""Values to strings for people and programs: the only place that does it."""
