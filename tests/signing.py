"""Signs a request as a call does, and gives the headers that this adds."""

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
    prepared = signer.prepare(method=method, path=path, query=query, headers=headers)
    signing = prepared.at(credentials, timestamp)
    token = [] if credentials.token is None else [("X-Amz-Security-Token", credentials.token)]
    authorization = signing.authorization + signing.signature(payload_hash)
    return [("X-Amz-Date", signing.stamp), *token, ("Authorization", authorization)]
