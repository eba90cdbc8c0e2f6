"""Profile a scoring target with wrk."""
