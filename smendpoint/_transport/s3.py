"""Objects in Amazon S3, blocking: the inputs and answers of asynchronous inference."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from smendpoint import errors
from smendpoint._core.call.polling import split_location
from smendpoint._transport.clients.adapter import harmless_cause, library_of, translate

if TYPE_CHECKING:
    from collections.abc import Callable


def check_s3_client(client: Any, *, asynchronous: bool) -> None:
    """Refuse what is no ``s3`` client of the right kind.

    Raises:
        ConfigurationError: it is something else.
    """
    service = getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", None)
    if service not in (None, "s3") or not callable(getattr(client, "get_object", None)):
        raise errors.ConfigurationError(
            f"s3_client= must be a client for 's3', not {type(client).__name__}: with boto3, boto3.client('s3')"
        )
    library = library_of(client)
    if asynchronous and library == "botocore":
        raise errors.ConfigurationError(
            "AsyncEndpoint needs an aiobotocore s3_client (pip install 'smendpoint[aiobotocore]'): a boto3 one would "
            "block the event loop"
        )
    if not asynchronous and library == "aiobotocore":
        raise errors.ConfigurationError(
            "Endpoint needs a boto3 or botocore s3_client; AsyncEndpoint takes aiobotocore's"
        )


def is_absent(error: Exception) -> bool:
    """Whether S3 says with this exception of a client's that there is no such object."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    code: object = (response.get("Error") or {}).get("Code")
    return code == "NoSuchKey"


class BlockingStorage:
    """Gets and puts objects.

    Args:
        given: the client to use; its maker closes it.
        make: makes one where none is given, when it is first needed.
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
        """The object at ``s3://bucket/key``; `None` where there is none (yet).

        Raises:
            SmendpointError: S3 or the way to it failed.
        """
        bucket, key = split_location(location)
        client = self._client()
        try:
            body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except Exception as error:
            if is_absent(error):
                return None
            ours = translate(error)
            if ours is None:
                raise
            raise ours from harmless_cause(error, ours)
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
            ours = translate(error)
            if ours is None:
                raise
            raise ours from harmless_cause(error, ours)

    def close(self) -> None:
        """Close the client that was made here."""
        with self._making:
            self._closed = True
            made, self._made = self._made, None
        if made is not None:
            made.close()
