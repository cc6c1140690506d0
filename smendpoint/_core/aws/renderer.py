"""Render the head of an attempt's request: address it, sign it, write it as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smendpoint._core.aws.sigv4 import STREAMING_EVENTS, Signer, payload_hash
from smendpoint._core.http.syntax import render_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._core.aws.conversation import PartEncoder
    from smendpoint._core.aws.operations import Operation, RequestHead
    from smendpoint._core.aws.sigv4 import SignableRequest
    from smendpoint._core.call.flow import Send
    from smendpoint._core.call.timing import Timeout


# How many heads are kept. An endpoint has fewer, unless each call has its own members.
MAX_KNOWN = 64


class CallRequest:
    """The request of one call, the same for each of its attempts.

    Attributes:
        operation: the operation of the service.
        endpoint_name: the name of the endpoint, or of the router or gateway.
        members: the request members in the AWS spelling, without the body.
        head: the path and headers for the members.
        body: the body that the content handler made from the input.
        invocation_id: one id for all attempts, as in the AWS SDKs.
        streaming: whether the answer is passed on as it arrives.
        timeout: this call's own timeout; `None` for that of its endpoint.
        max_answer: the most bytes that a whole answer may have; `None` for no limit.
        body_hash: the body's SHA-256 in hex, once it is known.
        observed: the task, the model and the parameters for hooks; `None` if there are no hooks.
    """

    __slots__ = (
        "body",
        "body_hash",
        "endpoint_name",
        "head",
        "invocation_id",
        "max_answer",
        "members",
        "observed",
        "operation",
        "streaming",
        "timeout",
    )

    def __init__(
        self,
        operation: Operation,
        endpoint_name: str,
        members: Mapping[str, object],
        head: RequestHead,
        body: bytes,
        invocation_id: str,
        timeout: Timeout | None = None,
        max_answer: int | None = None,
    ) -> None:
        self.operation = operation
        self.endpoint_name = endpoint_name
        self.members = members
        self.head = head
        self.body = body
        self.invocation_id = invocation_id
        self.streaming = operation.streaming
        self.timeout = timeout
        self.max_answer = max_answer
        self.body_hash: str | None = None
        self.observed: tuple[str | None, str, Mapping[str, object]] | None = None

    def hash_body(self) -> str:
        """Return the body's SHA-256 in hex, computed once for all attempts."""
        if self.body_hash is None:
            self.body_hash = payload_hash(self.body)
        return self.body_hash


class RequestRenderer:
    """Renders and signs the heads of requests to one service address.

    Args:
        region: the region for signatures.
        host_header: the address's host, with its port if that is not the default of the scheme.
        base_path: the part of the address's URL before ``/endpoints``; empty for AWS's own.
        target_prefix: ``http://host`` if a proxy needs the absolute form, else empty.
        extra_headers: further headers, such as ``User-Agent``; not signed.
    """

    __slots__ = ("_base_path", "_extra", "_host", "_known", "_prefix", "_signer")

    def __init__(
        self,
        *,
        region: str,
        host_header: str,
        base_path: str,
        target_prefix: str,
        extra_headers: tuple[tuple[str, str], ...],
    ) -> None:
        self._signer = Signer(region=region)
        self._host = ("Host", host_header)
        self._base_path = base_path
        self._prefix = target_prefix
        # identity: answers are not decompressed, so nothing may be compressed
        self._extra = (*extra_headers, ("Accept-Encoding", "identity"))
        # By head: the lines that all its requests share, and their signatures.
        self._known: dict[RequestHead, tuple[str, SignableRequest]] = {}

    def _add(self, head: RequestHead) -> tuple[str, SignableRequest]:
        path = self._base_path + head.path
        signed = (self._host, *head.headers)
        lines = render_head("POST", self._prefix + path, (*signed, *self._extra))
        known = lines[:-2].decode(), self._signer.signable(method="POST", path=path, headers=signed)
        if len(self._known) >= MAX_KNOWN:
            self._known = {}
        self._known[head] = known
        return known

    def render_http2(self, request: CallRequest, send: Send, scheme: str) -> tuple[list[tuple[str, str]], PartEncoder]:
        """Return the signed header fields of a conversation's request, and the encoder that continues the signatures.

        Args:
            request: the request.
            send: its only attempt.
            scheme: the scheme of the URL.
        """
        from smendpoint._core.aws.conversation import PartEncoder  # only conversations need it

        path, (_, host) = self._base_path + request.head.path, self._host
        fields = [(name.lower(), value) for name, value in request.head.headers]
        fields += [("content-type", "application/vnd.amazon.eventstream"), ("x-amz-content-sha256", STREAMING_EVENTS)]
        signable = self._signer.signable(method="POST", path=path, headers=[("host", host), *fields])
        assert send.credentials is not None
        signing = signable.at(send.credentials, send.timestamp)
        signature = signing.signature(STREAMING_EVENTS)
        for line in f"{signing.headers}{signature}".split("\r\n"):
            name, _, value = line.partition(": ")
            fields.append((name.lower(), value))
        fields += [(name.lower(), value) for name, value in self._extra]
        fields += [
            ("amz-sdk-invocation-id", request.invocation_id),
            ("amz-sdk-request", f"attempt={send.attempt}; max={send.max_attempts}"),
        ]
        pseudo = [(":method", "POST"), (":scheme", scheme), (":authority", host), (":path", path)]
        return [*pseudo, *fields], PartEncoder(region=self._signer.region, seed=signature)

    def render(self, request: CallRequest, send: Send) -> bytes:
        """Return the head of the attempt `send`, signed with its credentials at its time."""
        lines, signable = self._known.get(request.head) or self._add(request.head)
        credentials, attempt, most = send.credentials, send.attempt, send.max_attempts
        if attempt > most:
            most = attempt  # attempts that wait for a cold start do not count in the maximum
        if credentials is not None:
            signing = signable.at(credentials, send.timestamp)
            lines = f"{lines}{signing.headers}{signing.signature(request.body_hash or request.hash_body())}\r\n"
        return (
            f"{lines}amz-sdk-invocation-id: {request.invocation_id}\r\n"
            f"amz-sdk-request: attempt={attempt}; max={most}\r\nContent-Length: {len(request.body)}\r\n\r\n"
        ).encode()
