"""The part of S3 that asynchronous inference needs: PUT, GET, HEAD and DELETE of objects by path."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping

from smendpoint.emulator._http import BadRequest, chunk_size
from smendpoint.emulator._reply import Reply
from smendpoint.emulator._route import ReceivedRequest

STORE_IS_FULL = "The emulator's store is full: delete objects, or pass a larger keep_bytes to Emulator."


def total_size(objects: MutableMapping[str, bytes]) -> int:
    """How many bytes the objects and their names have together."""
    # A copy: a model's thread may add an object in the meantime.
    return sum(len(location) + len(data) for location, data in list(objects.items()))


def serve_object(
    objects: MutableMapping[str, bytes], request: ReceivedRequest, location: str, max_objects: float
) -> Reply:
    """Answer a path-style S3 request about the object at ``location`` (``s3://bucket/key``).

    Raises:
        BadRequest: An upload in the SDKs' own chunks is not complete.
    """
    if request.method == "PUT":
        data = request.body
        if "aws-chunked" in request.headers.get("content-encoding", ""):
            data = _unchunk(data)
            if request.headers.get("x-amz-decoded-content-length", str(len(data))) != str(len(data)):
                raise BadRequest("an aws-chunked body is not as long as announced")
        if total_size({**objects, location: data}) > max_objects:
            return _error(507, "InsufficientStorage", STORE_IS_FULL)
        objects[location] = data
        return Reply(200, [("ETag", _etag(data))])
    if request.method == "DELETE":
        objects.pop(location, None)
        return Reply(204)
    if request.method not in ("GET", "HEAD"):
        return _error(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    found = objects.get(location)
    if found is None:
        return _error(404, "NoSuchKey", "The specified key does not exist.")
    headers = [("ETag", _etag(found)), ("Content-Type", "binary/octet-stream")]
    return Reply(200, headers, found)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str, message: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, [("Content-Type", "application/xml")], body.encode())


def _unchunk(data: bytes) -> bytes:
    """Take the AWS SDKs' own chunking off an upload: sizes with signatures before the chunks, checksums after them.

    Raises:
        BadRequest: It is not such an upload, or it is not complete.
    """
    chunks: list[bytes] = []
    position = 0
    while True:
        end = data.find(b"\r\n", position)
        if end < 0:
            raise BadRequest("an aws-chunked body without its end")
        size, _ = chunk_size(data[position:end])
        if size == 0:
            return b"".join(chunks)
        position = end + 2 + size + 2
        if data[position - 2 : position] != b"\r\n":
            raise BadRequest("a chunk of an aws-chunked body is not as long as announced")
        chunks.append(data[end + 2 : end + 2 + size])
