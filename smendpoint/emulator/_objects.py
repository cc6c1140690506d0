"""As much of S3 as asynchronous inference needs: objects that can be put, got, looked at and deleted by path."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping

from smendpoint.emulator._http import BadRequest
from smendpoint.emulator._reply import Reply
from smendpoint.emulator._route import ReceivedRequest

__all__ = ["serve_object"]


def serve_object(objects: MutableMapping[str, bytes], request: ReceivedRequest, location: str) -> Reply:
    """Answers a path-style S3 request about the object at ``location`` (``s3://bucket/key``)."""
    if request.method == "PUT":
        data = request.body
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            data = _unchunk(data)
        objects[location] = data
        return Reply(200, [("ETag", _etag(data))])
    if request.method == "DELETE":
        objects.pop(location, None)
        return Reply(204)
    if request.method not in ("GET", "HEAD"):
        return _error(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    found = objects.get(location)
    if found is None:
        return _error(404, "NoSuchKey", "The specified key does not exist.", head=request.method == "HEAD")
    headers = [("ETag", _etag(found)), ("Content-Type", "binary/octet-stream")]
    return Reply(200, headers, found, head_only=request.method == "HEAD")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str, message: str, *, head: bool = False) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, [("Content-Type", "application/xml")], body.encode(), head_only=head)


def _unchunk(data: bytes) -> bytes:
    """Takes the AWS SDKs' own chunking off an upload: sizes with signatures before the chunks, checksums after them."""
    chunks: list[bytes] = []
    position = 0
    while True:
        end = data.find(b"\r\n", position)
        try:
            size = int(data[position:end].partition(b";")[0], 16)
        except ValueError:
            raise BadRequest("bad aws-chunked body") from None
        if size == 0:
            return b"".join(chunks)
        chunks.append(data[end + 2 : end + 2 + size])
        position = end + 2 + size + 2
