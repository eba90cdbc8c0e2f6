"""Finds the deployment settings to take."""
