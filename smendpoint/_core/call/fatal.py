"""Whether every further call of the endpoint will fail as this one did."""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from smendpoint import errors
from smendpoint._core.aws.response import ERROR_CLASSES, no_such_endpoint

# The endpoint is closed or made wrongly, it has no usable credentials, or nobody that it trusts answers.
FATAL_CLASSES = (errors.ConfigurationError, errors.CredentialsError, errors.TLSError)

# AWS refuses the credentials, or does not let them call. A 401 or 403 without one of these codes is not of AWS: it may
# be of a firewall, about the text of one input.
FATAL_CODES = frozenset(code for code, kind in ERROR_CLASSES.items() if kind is errors.AccessDeniedError)


def is_fatal(error: BaseException) -> bool:
    """Say whether the error of a call is about the endpoint or its caller, and not about this one input.

    A call has tried what can help before it fails: it has renewed its credentials, and corrected its clock.
    """
    if isinstance(error, errors.ServiceError):
        return error.code in FATAL_CODES or no_such_endpoint(error)
    return isinstance(error, FATAL_CLASSES)
