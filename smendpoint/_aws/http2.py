"""Where conversations go: the service that SageMaker calls "SageMaker Runtime HTTP2", which botocore does not know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from smendpoint._aws.machine import proxy_for

if TYPE_CHECKING:
    from smendpoint._aws.identity import Identity
    from smendpoint._aws.target import Target
    from smendpoint._aws.url import EndpointURL

__all__ = ["http2_target"]

# The service's port, from the rules of its endpoint in the AWS SDK for Python (its host is that of the runtime).
PORT = 8443
_VARIABLE = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME_HTTP2"
_IGNORE = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"


def http2_target(identity: Identity, target: Target) -> Target:
    """Return the target of an endpoint's conversations.

    Args:
        identity: the arguments of the endpoint.
        target: the target of its other calls.

    Raises:
        ConfigurationError: the configured URL, or its proxy, is malformed or not safe.
    """
    url = _configured(identity)
    if url is None:
        url = target.url
        if url.tls and url.port == 443:
            url = url._replace(port=PORT, host_header=f"{url.host_header}:{PORT}")
    return target._replace(url=url, proxy=proxy_for(url, getattr(identity.config, "proxies", None)))


def _configured(identity: Identity) -> EndpointURL | None:
    """Return the URL of this service's own variable, with the precedence that botocore gives to such variables."""
    ignored = os.environ.get(_IGNORE, "").lower() == "true"
    if getattr(identity.config, "ignore_configured_endpoint_urls", None) is not None:
        ignored = identity.config.ignore_configured_endpoint_urls
    given = os.environ.get(_VARIABLE)
    if identity.endpoint_url is not None or ignored or not given:
        return None
    return identity.parse_url(given, _VARIABLE)
