"""Profile a scoring target at a constant rate, every connection on its own schedule."""
