"""Errors that carry an Azure status, code and message."""

from __future__ import annotations


class AzureError(Exception):
    """An answer of the control plane that is not a success."""

    status = 500
    code = "InternalServerError"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequestError(AzureError):
    """The request's content is wrong."""

    status = 400
    code = "BadRequest"


class UnauthorizedError(AzureError):
    """The bearer token is missing, expired, or not one of ours."""

    status = 401
    code = "InvalidAuthenticationToken"


class ResourceNotFoundError(AzureError):
    """What the URL names does not exist."""

    status = 404
    code = "ResourceNotFound"


class ConflictError(AzureError):
    """The resource's present state forbids the request."""

    status = 409
    code = "Conflict"


class DeploymentError(Exception):
    """A long-running operation failed: the code and message that its status will show."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class OperationCanceledError(DeploymentError):
    """A long-running operation was canceled."""


class JobError(Exception):
    """A job failed: the code and message that its run will show."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PlaneError(Exception):
    """The control plane cannot do what its command line asks; the message is one line with its remedy."""

    exit_code = 1


class CommandLineError(PlaneError):
    """What the command line asks makes no sense."""

    exit_code = 2
