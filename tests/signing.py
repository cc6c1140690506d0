"""Sign a request as a call does, and give the headers that this adds."""

from __future__ import annotations

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
    """``X-Amz-Date``, ``X-Amz-Security-Token`` with temporary credentials, and ``Authorization``."""
    signing = signer.request(method=method, path=path, query=query, headers=headers).at(credentials, timestamp)
    lines = f"{signing.headers}{signing.signature(payload_hash)}".split("\r\n")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
