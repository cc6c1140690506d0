"""`InferenceHandle`: an output of asynchronous inference that will be there later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from smendpoint import errors
from smendpoint._core.call.polling import Get, look, wait
from smendpoint._inference import HandleBase, accepted, no_s3_client, prepare
from smendpoint._transport.driving import drive
from smendpoint._transport.s3 import BlockingStorage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from smendpoint.endpoint import Endpoint

T = TypeVar("T")

__all__ = ["InferenceHandle"]


class InferenceHandle(HandleBase[T]):
    """An output of asynchronous inference that will be there later.

    `Endpoint.submit` gives one. It can be pickled, and made again, in another process too, from an endpoint and the
    locations. The output is looked for in Amazon S3, with the permissions ``s3:GetObject`` and ``s3:ListBucket``.
    """

    __slots__ = ()

    def done(self) -> bool:
        """Look once whether there is an output, or a failure.

        Raises:
            SmendpointError: Amazon S3 or the way to it failed.
        """
        if self._outcome is None:
            self._outcome = self._drive(look(self.output_location, self.failure_location))
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> T:
        """Wait for the output. It is kept: asking again costs nothing.

        Args:
            timeout: how long to wait in seconds; with 0 there is one look. A request to Amazon S3 that hangs may take
                longer: the S3 client's own limits hold for it.

        Raises:
            ModelError: the model failed; ``original_message`` has what the service tells of it.
            DeadlineExceededError: there was no output in time; `result` may be called again.
            HandlerError: the content handler could not read the output.
            SmendpointError: Amazon S3 or the way to it failed; `result` may be called again.
        """
        outcome = self._outcome
        if outcome is None:
            clock = self._endpoint._clock
            outcome = self._drive(wait(self.output_location, self.failure_location, timeout, clock))
        return self._settled(outcome)

    def _drive(self, flow: Generator[Any, Any, Any]) -> Any:
        storage, clock = storage_of(self._endpoint), self._endpoint._clock
        try:
            return drive(
                flow, lambda step: storage.get(step.location) if type(step) is Get else clock.sleep(step.seconds)
            )
        except errors.SmendpointError as error:
            self._named(error)
            raise


def submit(
    endpoint: Endpoint[Any, T, Any],
    value: Any,
    upload_to: str | None,
    stop: str | Iterable[str] | None,
    endpoint_kwargs: Mapping[str, object] | None,
    members: Mapping[str, object],
    model_kwargs: dict[str, Any],
) -> InferenceHandle[T]:
    """`Endpoint.submit`."""
    request, upload, sequences = prepare(endpoint, value, upload_to, stop, endpoint_kwargs, members, model_kwargs)
    if upload is not None:
        try:
            storage_of(endpoint).put(*upload)
        except errors.SmendpointError as error:
            error.endpoint_name = endpoint.endpoint_name
            raise
    call = endpoint._start(request)
    return InferenceHandle(endpoint, *accepted(call, endpoint._run(request, call)), stop=sequences)


def storage_of(endpoint: Endpoint[Any, Any, Any]) -> BlockingStorage:
    """Where an endpoint finds objects; one for all its handles."""

    def make() -> Any:
        target = endpoint._transport.prepare()
        if target is None:
            raise no_s3_client(endpoint)
        from smendpoint._aws.s3 import blocking_s3_client

        return blocking_s3_client(endpoint._identity, target, endpoint._timeout)

    if endpoint._storage is None:
        vars(endpoint).setdefault("_storage", BlockingStorage(endpoint._s3_client, make, closed=endpoint._closed))
    storage: Any = endpoint._storage
    assert isinstance(storage, BlockingStorage)
    return storage
