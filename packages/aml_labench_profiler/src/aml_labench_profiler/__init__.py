"""Profile a scoring target at a constant rate, one clock for all clients."""
