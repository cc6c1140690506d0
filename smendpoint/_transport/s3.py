"""Objects in Amazon S3, blocking: the inputs and answers of asynchronous inference."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.call.polling import split_location
from smendpoint._transport.clients.adapter import check_library, meta
from smendpoint._transport.clients.failures import raise_for, translate

if TYPE_CHECKING:
    from collections.abc import Callable


def check_s3_client(client: Any, *, asynchronous: bool) -> None:
    """Refuse all but an ``s3`` client of the right kind.

    Raises:
        ConfigurationError: it is something else.
    """
    service = meta(client, "service_model", "service_name")
    if service not in (None, "s3") or not callable(getattr(client, "get_object", None)):
        raise errors.ConfigurationError(
            f"s3_client= must be a client for 's3', not {type(client).__name__}: with boto3, boto3.client('s3')"
        )
    check_library(client, "s3_client", asynchronous=asynchronous)


def raise_unless_absent(error: Exception) -> None:
    """Raise our error for a client's, unless it says that there is no such object."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code: object = (response.get("Error") or {}).get("Code")
    if code != "NoSuchKey":
        raise_for(error, translate(error))


class BlockingStorage:
    """Gets and puts objects.

    Args:
        given: the user's client, which the user closes.
        make: makes one if none is given, on first use.
        closed: whether it is too late to make one.
    """

    def __init__(self, given: Any, make: Callable[[], Any], *, closed: bool = False) -> None:
        self._given = given
        self._make = make
        self._made: Any = None
        self._making = threading.Lock()
        self._closed = closed

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        with self._making:
            if self._closed:
                raise errors.ConfigurationError("the endpoint is closed: make a new one")
            if self._made is None:
                self._made = self._make()
            return self._made

    def get(self, location: str) -> bytes | None:
        """Get the object at ``s3://bucket/key``; `None` if there is none (yet).

        Raises:
            SmendpointError: S3 or the way to it failed.
        """
        bucket, key = split_location(location)
        client = self._client()
        try:
            body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except Exception as error:
            raise_unless_absent(error)
            return None
        return body

    def put(self, location: str, body: bytes, content_type: str) -> None:
        """Store an object at ``s3://bucket/key``.

        Raises:
            SmendpointError: S3 or the way to it failed.
        """
        bucket, key = split_location(location)
        client = self._client()
        try:
            client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        except Exception as error:
            raise_for(error, translate(error))

    def close(self) -> None:
        """Close the client that was made here."""
        with self._making:
            self._closed = True
            made, self._made = self._made, None
        if made is not None:
            made.close()
