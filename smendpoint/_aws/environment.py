"""Resolving from arguments and environment alone, without importing botocore, if the result is provably the same.

On a cold start (an AWS Lambda function, a script), importing botocore and reading its data costs more than the call.
This module avoids that if only explicit arguments and the variables below matter, whose meaning botocore cannot change.
Anything else goes through botocore: a profile, a role, a session, a ``Config``, a config or credentials file, the
user's data files, and every ``AWS_`` variable that is not listed below, because a newer botocore may read it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._aws.machine import ca_bundle, proxy_for, user_agent
from smendpoint._aws.target import Limits, Target
from smendpoint._core.aws.operations import RUNTIME, Service, validate_region
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from smendpoint._aws.identity import Identity

__all__ = ["endpoint_host", "resolve_from_environment", "settings_files"]

# The variables that are read here.
_READ = """
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_SECURITY_TOKEN
    AWS_DEFAULT_REGION AWS_REGION AWS_ENDPOINT_URL
    AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE AWS_CA_BUNDLE AWS_EXECUTION_ENV AWS_MAX_ATTEMPTS AWS_SDK_UA_APP_ID
"""
# The variables without effect once region and credentials are known.
_WITHOUT_EFFECT = """
    AWS_ACCOUNT_ID AWS_DEFAULT_OUTPUT AWS_EC2_METADATA_DISABLED AWS_PAGER
    AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_WEB_IDENTITY_TOKEN_FILE
    AWS_CONTAINER_AUTHORIZATION_TOKEN AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE
    AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_CREDENTIALS_RELATIVE_URI
"""
# The services whose `AWS_ENDPOINT_URL_<SERVICE>` is known: one is read, and the others have no effect on it.
_SERVICES = """
    S3 SAGEMAKER SAGEMAKER_GATEWAY_RUNTIME SAGEMAKER_INFERENCE_ROUTER_RUNTIME SAGEMAKER_RUNTIME SAGEMAKER_RUNTIME_HTTP2
"""
_KNOWN = frozenset((_READ + _WITHOUT_EFFECT).split()) | {f"AWS_ENDPOINT_URL_{name}" for name in _SERVICES.split()}
# The Lambda and X-Ray runtimes set these for themselves.
_KNOWN_PREFIXES = ("AWS_LAMBDA_", "AWS_XRAY_")
# The regular expressions of botocore's partitions.json, as far as they are used: `(us|eu|...)-\w+-\d+`, `cn-\w+-\d+`,
# `us-gov-\w+-\d+`. A test compares the result with botocore's own data, for every region that it knows.
_AWS_PREFIXES = frozenset({"af", "ap", "ca", "eu", "il", "me", "mx", "sa", "us"})


def resolve_from_environment(identity: Identity, *, now: Callable[[], float]) -> Target | None:
    """Resolve an identity if that needs neither botocore nor a file; ``None`` if botocore must be asked."""
    others = (identity.credentials_profile_name, identity.role_arn, identity.session, identity.config)
    if any(other is not None for other in others) or not all(map(_is_known, os.environ)) or _has_files():
        return None
    region = identity.region_name or _region()
    credentials = identity.credentials or _credentials()
    host = None if region is None else endpoint_host(region, identity.service)
    if region is None or credentials is None or host is None:
        return None  # even with a URL: botocore signs for us-east-1 if the region is fips-us-east-1
    attempts = os.environ.get("AWS_MAX_ATTEMPTS")
    if attempts is not None and not (attempts.isascii() and attempts.isdecimal() and 0 < int(attempts) < 1_000_000):
        return None  # malformed: botocore reports it
    text, source = _endpoint_url(identity) or (f"https://{host}", "the region's endpoint")
    url = identity.parse_url(text, source)
    if identity.credentials is not None:
        provider = CredentialProvider.of_explicit(credentials, now)
    else:
        origin = "the environment (AWS_ACCESS_KEY_ID)"
        provider = CredentialProvider(_fetch, now=now, initial=credentials, origin=origin)
    return Target(
        url=url,
        region=region,
        region_source="AWS_DEFAULT_REGION" if identity.region_name is None else "region_name",
        credentials=provider,
        user_agent=user_agent(os.environ.get("AWS_SDK_UA_APP_ID")),
        proxy=proxy_for(url, None),
        ca_bundle=ca_bundle(os.environ.get("AWS_CA_BUNDLE")),
        limits=Limits(max_attempts=None if attempts is None else int(attempts)),
    )


def endpoint_host(region: str, service: Service = RUNTIME) -> str | None:
    """Return the host of a service in a region if the region's name shows its partition; else ``None``."""
    parts = region.split("-")
    if not (parts[-1].isascii() and parts[-1].isdecimal() and all(part.isalnum() for part in parts)):
        return None
    if (len(parts) == 3 and parts[0] in _AWS_PREFIXES) or (len(parts) == 4 and parts[:2] == ["us", "gov"]):
        suffix = "amazonaws.com"
    elif len(parts) == 3 and parts[0] == "cn":
        suffix = "amazonaws.com.cn"
    else:
        return None
    return f"{service.host}.{region}.{suffix}"


def _is_known(name: str) -> bool:
    # Names are upper case, except on Windows, where os.environ makes them so.
    if not name.startswith(("AWS_", "BOTO")):
        return True
    return name in _KNOWN or name.startswith(_KNOWN_PREFIXES)


def settings_files() -> list[str]:
    """Return the paths of the AWS config file and of the credentials file, whether they exist or not."""
    files = (
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    )
    return [os.path.expanduser(os.path.expandvars(name)) for name in files]


def _has_files() -> bool:
    if any(map(os.path.isfile, settings_files())):
        return True
    return os.path.exists(os.path.join(os.path.expanduser("~"), ".aws", "models"))


def _region() -> str | None:
    region = os.environ.get("AWS_DEFAULT_REGION")
    # botocore reads only the first, other SDKs the second: if they differ, let botocore decide.
    if not region or os.environ.get("AWS_REGION", region) != region:
        return None
    return validate_region(region, "AWS_DEFAULT_REGION")


def _credentials() -> Credentials | None:
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = os.environ.get("AWS_SECURITY_TOKEN") or os.environ.get("AWS_SESSION_TOKEN")
    return Credentials(access_key, secret_key, token)


def _fetch(anew: bool) -> tuple[Credentials, None]:
    """Read the environment again: a program may have put newer credentials there."""
    del anew
    credentials = _credentials()
    if credentials is None:
        raise CredentialsError(
            "the AWS credentials are no longer in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return credentials, None


def _endpoint_url(identity: Identity) -> tuple[str, str] | None:
    """Return the configured URL, if any, and the setting that has it."""
    if identity.endpoint_url is not None:
        return identity.endpoint_url, "endpoint_url"
    for name in (identity.service.url_variable, "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name], name
    return None
