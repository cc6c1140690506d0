"""Resolving from arguments and environment alone, without importing botocore, where the result provably is the same.

On a cold start (an AWS Lambda function, a script) importing botocore and reading its data costs more than the call.
That is saved where only explicit arguments and the environment variables below count, whose meaning botocore cannot
change. Anything else goes through botocore: a profile, a role, a session, a ``Config``, a config or credentials file,
data files of the user's, and every ``AWS_`` variable that is not listed below, because a newer botocore may read it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.machine import ca_bundle, proxy_for, user_agent
from smendpoint._aws.target import Limits, Target
from smendpoint._aws.url import parse_endpoint_url
from smendpoint._core.aws.operations import validate_region
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smendpoint._aws.identity import Identity

__all__ = ["endpoint_host", "resolve_from_environment"]

# The variables that are read here, and those that do not count once region and credentials are given.
_KNOWN = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_ACCOUNT_ID",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_OUTPUT",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_PAGER",
        "AWS_REGION",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_SDK_UA_APP_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
)
# What the Lambda and X-Ray runtimes set for themselves.
_KNOWN_PREFIXES = ("AWS_LAMBDA_", "AWS_XRAY_")
# The regular expressions of botocore's partitions.json, as far as they are used: `(us|eu|...)-\w+-\d+`, `cn-\w+-\d+`,
# `us-gov-\w+-\d+`. A test holds the result against botocore's own data, for every region that it knows.
_AWS_PREFIXES = frozenset({"af", "ap", "ca", "eu", "il", "me", "mx", "sa", "us"})


def resolve_from_environment(identity: Identity, *, now: Callable[[], float]) -> Target | None:
    """Resolve an identity if that needs neither botocore nor a file.

    Returns:
        The target; ``None`` where botocore must be asked.

    Raises:
        ConfigurationError: a setting is malformed, unsafe or not supported.
        CredentialsError: the credentials are malformed.
    """
    if not (
        identity.credentials_profile_name is None
        and identity.role_arn is None
        and identity.session is None
        and identity.config is None
        and all(_is_known(name) for name in os.environ)
        and not _has_files(os.environ)
    ):
        return None
    region = identity.region_name or _region(os.environ)
    region_source = "AWS_DEFAULT_REGION" if identity.region_name is None else "region_name"
    credentials = identity.credentials or _credentials(os.environ)
    if region is None or credentials is None:
        return None
    host = endpoint_host(region)
    if host is None:
        return None  # even with a URL: botocore signs for us-east-1 where the region is fips-us-east-1
    attempts = os.environ.get("AWS_MAX_ATTEMPTS")
    if attempts is not None and not (attempts.isascii() and attempts.isdecimal() and 0 < int(attempts) < 1_000_000):
        return None  # malformed: botocore says so
    text, source = _endpoint_url(identity, os.environ) or (f"https://{host}", "the region's endpoint")
    flags = {"allow_plain_http": identity.allow_plain_http, "allow_link_local": identity.allow_link_local}
    url = parse_endpoint_url(text, source=source, **flags)
    if identity.credentials is not None:
        provider = CredentialProvider.of_explicit(credentials, now)
    else:
        origin = "the environment (AWS_ACCESS_KEY_ID)"
        provider = CredentialProvider(_fetch, now=now, initial=credentials, origin=origin)
    return Target(
        url=url,
        region=region,
        region_source=region_source,
        credentials=provider,
        user_agent=user_agent(os.environ.get("AWS_SDK_UA_APP_ID")),
        proxy=proxy_for(url, None),
        ca_bundle=ca_bundle(os.environ.get("AWS_CA_BUNDLE")),
        limits=Limits(max_attempts=None if attempts is None else int(attempts)),
    )


def endpoint_host(region: str) -> str | None:
    """Give the host of a region's endpoint where the region's name shows its partition; else ``None``."""
    parts = region.split("-")
    if not (parts[-1].isascii() and parts[-1].isdecimal() and all(part.isalnum() for part in parts)):
        return None
    if (len(parts) == 3 and parts[0] in _AWS_PREFIXES) or (len(parts) == 4 and parts[:2] == ["us", "gov"]):
        suffix = "amazonaws.com"
    elif len(parts) == 3 and parts[0] == "cn":
        suffix = "amazonaws.com.cn"
    else:
        return None
    return f"runtime.sagemaker.{region}.{suffix}"


def _is_known(name: str) -> bool:
    # Names are upper case, except on Windows, where os.environ makes them so.
    if not name.startswith(("AWS_", "BOTO")):
        return True
    return name in _KNOWN or name.startswith(_KNOWN_PREFIXES)


def _has_files(environ: Mapping[str, str]) -> bool:
    files = (
        environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
        environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )
    if any(os.path.isfile(os.path.expanduser(os.path.expandvars(name))) for name in files):
        return True
    return os.path.exists(os.path.join(os.path.expanduser("~"), ".aws", "models"))


def _region(environ: Mapping[str, str]) -> str | None:
    region = environ.get("AWS_DEFAULT_REGION")
    # botocore reads the first alone, other SDKs the second: where they differ, let botocore decide.
    if not region or environ.get("AWS_REGION", region) != region:
        return None
    return validate_region(region)


def _credentials(environ: Mapping[str, str]) -> Credentials | None:
    access_key = environ.get("AWS_ACCESS_KEY_ID")
    secret_key = environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or None
    return Credentials(access_key, secret_key, token)


def _fetch(anew: bool) -> tuple[Credentials, None]:
    """Read the environment again: a program may have put newer credentials there."""
    del anew
    credentials = _credentials(os.environ)
    if credentials is None:
        raise CredentialsError(
            "the AWS credentials have gone from the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return credentials, None


def _endpoint_url(identity: Identity, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the URL that is configured, and the setting that says so."""
    if identity.endpoint_url is not None:
        return identity.endpoint_url, "endpoint_url"
    for name in ("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "AWS_ENDPOINT_URL"):
        if environ.get(name):
            return environ[name], name
    return None
