"""Olive's search for the fastest form of a model that is still good enough; see the README."""

from importlib.metadata import version

__version__ = version("aml-olive-optimizer")
