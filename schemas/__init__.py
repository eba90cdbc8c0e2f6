"""The JSON Schemas as package data; no code."""
