"""A local control plane: Azure Machine Learning's online endpoints on one machine."""

__version__ = "0.1.0"
