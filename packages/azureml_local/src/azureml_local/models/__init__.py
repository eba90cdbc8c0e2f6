"""State: what exists, with no HTTP in it."""
