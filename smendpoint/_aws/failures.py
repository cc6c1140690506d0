"""The errors of resolving an identity: each says what to do, and none holds a secret."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint._aws.credentials import EXPIRED
from smendpoint.errors import ConfigurationError, CredentialsError

if TYPE_CHECKING:
    from smendpoint._aws.identity import Identity
    from smendpoint._core.aws.operations import Service

__all__ = [
    "configuration_error",
    "credentials_error",
    "left_behind",
    "no_credentials",
    "no_region",
    "unknown_service",
]


def no_region() -> str:
    """Word the message that there is no region, and what to do."""
    hint = ""
    if os.environ.get("AWS_REGION"):
        hint = " (AWS_REGION is set, but botocore does not read it)"
    return f"no AWS region{hint}: pass region_name, set AWS_DEFAULT_REGION, or give the profile a region"


def unknown_service(service: Service) -> str:
    """Word the message that the installed botocore does not know a service, and what to do."""
    from botocore import __version__

    return (
        f"botocore {__version__} does not know the service {service.name!r}, and this AWS configuration needs it: "
        "install a newer botocore, or leave to the arguments and the environment what a profile, a role, a session, a "
        "Config or a file says now (region_name, and keys or AWS_ACCESS_KEY_ID)"
    )


def no_credentials() -> str:
    """Word the message that there are no credentials, and what to do."""
    return (
        "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run `aws configure` or "
        "`aws sso login`, or give this machine a role"
    )


def left_behind(identity: Identity) -> CredentialsError:
    """Make the error for an identity that was unpickled without its keys or session: it must not become another."""
    return CredentialsError(
        f"this endpoint was unpickled without {', '.join(identity.left_behind)}: secrets and sessions are not pickled, "
        "and no others replace them. Make the endpoint here, or pickle one that was made with a profile, a role or "
        "neither, which uses the credentials that it finds here"
    )


def configuration_error(error: Exception) -> ConfigurationError:
    """Make our error from the one that botocore raised while it read its configuration."""
    from botocore.exceptions import BotoCoreError, ConfigParseError, ProfileNotFound

    cause: Exception | None = None
    if isinstance(error, ConfigParseError):
        # Its details quote the line, which in a credentials file may be a secret: neither chained nor repeated.
        message = (
            f"the AWS file {error.kwargs.get('path')} is malformed (AWS_CONFIG_FILE and "
            "AWS_SHARED_CREDENTIALS_FILE can name other files)"
        )
    elif isinstance(error, ProfileNotFound):
        message, cause = f"{error}: pass another credentials_profile_name, or set AWS_PROFILE", error
    elif isinstance(error, BotoCoreError):
        message, cause = f"botocore refuses this AWS configuration: {error}", error
    elif isinstance(error, ValueError):
        # Such as "Invalid endpoint: <URL>"; the URL may hold a password.
        message = (
            "botocore refuses this AWS configuration: a value of the environment, or of the profile, is malformed (the "
            "endpoint URL, or a number)"
        )
    else:
        message = f"botocore failed to read the AWS configuration ({type(error).__name__})"
    failure = ConfigurationError(message)
    if cause is not None:
        failure.__cause__ = cause
    return failure


def credentials_error(what: str, error: Exception) -> CredentialsError:
    """Make our error from the one that botocore raised while it fetched credentials; ``what`` begins the message."""
    from botocore.exceptions import BotoCoreError, ClientError, ConfigParseError, NoCredentialsError, SSOTokenLoadError

    kind, cause = type(error), None
    if isinstance(error, NoCredentialsError):
        reason = f": {no_credentials()}"
    elif isinstance(error, SSOTokenLoadError):
        reason, cause = f": {error}; run `aws sso login`", error
    elif kind is RuntimeError:  # botocore's, for credentials that have expired
        reason = f": {EXPIRED}"
    elif isinstance(error, (BotoCoreError, ClientError, OSError)) and not isinstance(error, ConfigParseError):
        reason, cause = f": {error}", error
    elif kind is ValueError and str(error).startswith("Unsupported host"):  # botocore's; it shows only the host
        reason = f": botocore refuses AWS_CONTAINER_CREDENTIALS_FULL_URI: {error}. With https, any host is accepted"
    elif kind is ValueError and str(error).startswith("Auth token value"):
        reason = (
            ": the container's authorization token contains a line end, which is not valid in a header "
            "(AWS_CONTAINER_AUTHORIZATION_TOKEN or the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)"
        )
    # Others, such as a JSONDecodeError, may hold a source's answer: neither chained nor repeated.
    elif isinstance(error, (TypeError, ValueError)):
        reason = f": the answer of their source, or a setting for it, is malformed ({kind.__name__})"
    else:
        reason = f" ({kind.__name__})"
    failure = CredentialsError(what + reason)
    if cause is not None:
        failure.__cause__ = cause
    return failure
