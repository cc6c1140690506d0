"""Whether every later call of the endpoint will fail in the same way."""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from smendpoint import errors
from smendpoint._core.aws.response import ERROR_CLASSES, no_such_endpoint

# The endpoint is closed or its settings are wrong, it has no usable credentials, or no trusted server answers.
FATAL_CLASSES = (errors.ConfigurationError, errors.CredentialsError, errors.TLSError)

# AWS refuses the credentials, or does not allow them to call. A 401 or 403 without one of these codes is not from AWS:
# it may come from a firewall, because of the text of one input.
FATAL_CODES = frozenset(code for code, kind in ERROR_CLASSES.items() if kind is errors.AccessDeniedError)


def is_fatal(error: BaseException) -> bool:
    """Return whether the error of a call is about the endpoint or its caller, and not about this one input.

    Before a call fails, it has tried what can help: it has renewed its credentials, and corrected its clock.
    """
    if isinstance(error, errors.ServiceError):
        return error.code in FATAL_CODES or no_such_endpoint(error)
    return isinstance(error, FATAL_CLASSES)
