"""The environment in which AWS clients call an emulator: for the pytest fixture and for ``smendpoint emulator``."""

from __future__ import annotations

import os

CLIENT_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "emulated",
    "AWS_SECRET_ACCESS_KEY": "emulated-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
URL_VARIABLES = (
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2",
    "AWS_ENDPOINT_URL_SAGEMAKER_INFERENCE_ROUTER_RUNTIME",
    "AWS_ENDPOINT_URL_SAGEMAKER_GATEWAY_RUNTIME",
)
# Each would override one of these, or send the call elsewhere.
IN_THE_WAY = (
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


def overrides() -> dict[str, str]:
    """Give the variables that override a setting of the AWS config file which would send calls to AWS."""
    if os.path.isfile(os.path.expanduser(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"))):
        return {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}
    return {}
