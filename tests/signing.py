"""Sign requests as a call does, and make bearer tokens."""

from __future__ import annotations

import base64

from smendpoint._core.aws.sigv4 import Credentials, Signer


def sign(
    signer: Signer,
    *,
    method: str,
    path: str,
    query: str = "",
    headers: list[tuple[str, str]],
    payload_hash: str,
    credentials: Credentials,
    timestamp: float,
) -> list[tuple[str, str]]:
    """Give the headers that a signature adds.

    They are ``X-Amz-Date``, ``X-Amz-Security-Token`` with temporary credentials, and ``Authorization``.
    """
    signing = signer.signable(method=method, path=path, query=query, headers=headers).at(credentials, timestamp)
    lines = f"{signing.headers}{signing.signature(payload_hash)}".split("\r\n")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def presign(
    credentials: Credentials,
    timestamp: float,
    *,
    region: str = "us-east-1",
    action: str = "CallWithBearerToken",
    expires: int = 3600,
) -> str:
    """Give the query string of a presigned URL of SageMaker."""
    return Signer(region=region).presign(
        method="POST",
        url_host="sagemaker.amazonaws.com",
        path="/",
        query=[("Action", action)],
        credentials=credentials,
        timestamp=timestamp,
        expires=expires,
    )


def bearer(
    query: str,
    *,
    start: str = "sagemaker.amazonaws.com/?",
    end: str = "&Version=1",
    prefix: str = "sagemaker-api-key-",
) -> str:
    """Give the bearer token that is made of a presigned query string."""
    return prefix + base64.b64encode(f"{start}{query}{end}".encode()).decode()
