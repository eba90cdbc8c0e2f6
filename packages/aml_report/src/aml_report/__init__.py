"""Compare, merge and render report.json files of the profilers."""

from importlib.metadata import version

__version__ = version("aml-report")
