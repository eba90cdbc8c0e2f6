"""Placeholders of a job's command: ``${{inputs.x}}``, and ``$[[...]]`` for what falls away without its input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from azureml_local.exceptions import InvalidRequestError

# https://learn.microsoft.com/azure/machine-learning/reference-yaml-core-syntax#expression-syntax-for-configuring-azure-machine-learning-jobs-and-components
REFERENCE = re.compile(r"\$\{\{\s*([A-Za-z_][\w-]*(?:\.[\w-]+)+)\s*\}\}")
OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def references(text: str) -> Iterator[str]:
    """Iterate over what a text refers to, for example ``inputs.config``."""
    return (match[1] for match in REFERENCE.finditer(text))


def sole_reference(text: str) -> str | None:
    """Return what a text refers to if it is one reference and nothing else."""
    match = REFERENCE.fullmatch(text.strip())
    return match[1] if match else None


def resolve(text: str, values: Mapping[str, str]) -> str:
    """Fill the placeholders in; raises InvalidRequestError for one that nothing fills.

    A ``$[[...]]`` stays, without its brackets, when all that it refers to is there, and falls away otherwise.
    """

    def optional(match: re.Match[str]) -> str:
        return match[1] if all(name in values for name in references(match[1])) else ""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InvalidRequestError(f"The command refers to ${{{{{match[1]}}}}}, which the job does not have.")
        return values[match[1]]

    return REFERENCE.sub(value, OPTIONAL.sub(optional, text))
