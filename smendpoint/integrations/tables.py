"""`TableMapper`: a batch of rows in, the same batch with the model's outputs out. It runs in the workers of engines."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smendpoint._calls.arguments import checked_limit
from smendpoint._calls.endpoint import remade
from smendpoint._core.call.limit import AdaptiveConcurrency
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.batch._values import digest_of, encode_output
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import ChatCompletion
from smendpoint.integrations import _columns
from smendpoint.integrations._answers import answers_in

if TYPE_CHECKING:
    from typing_extensions import Self

    from smendpoint._core.http.body import ResponseBody
    from smendpoint.handlers.base import ContentHandler, RequestBody

__all__ = ["TableMapper"]

Batch = TypeVar("Batch")

# How `map` gives its outputs to the mapper: as they are ready, so that an answer is in the ledger at once.
_OUTPUTS: dict[str, Any] = {"enumerated": True, "ordered": False, "return_exceptions": True}


class TableMapper:
    """Call the model for each row of a batch, several rows at a time, and return the batch with the outputs.

    A batch is a ``DataFrame`` of pandas or polars, a ``Table`` or ``RecordBatch`` of Arrow, or a mapping of names to
    lists or arrays. The result has the same type, the same rows in the same order, and the new columns at its end. A
    row whose input is null is not sent: its output is null.

    A mapper can be pickled, like its endpoint: connections and secrets are not pickled, and each process makes its own.
    Threads can share it.

    Args:
        endpoint: the model. The mapper makes endpoints like it, and closes them.
        input_column: the column that holds the inputs.
        output_column: the new column for the outputs.
        error_column: the new column for the errors as texts, such as ``"ThrottlingError: ..."``; null if there is none.
            Without it, the first error is raised.
        max_concurrency: how many calls may be in flight in each process, for all its batches together; by default the
            endpoint's ``concurrency``, or else the number that `AdaptiveConcurrency` finds.
        params_column: the column that holds a row's parameters for the model: mappings, or texts of JSON objects. They
            take precedence over all others. A parameter that is null is left out.
        ledger: a folder for the answers that all processes can reach. A row whose input and parameters have an answer
            there gets it without a call: a task that the engine runs again does not pay again. Each process writes its
            own file, in a folder with the endpoint's name. Outputs are then converted to JSON and back.
        **model_kwargs: parameters for the model in every row, and ``stop``, ``timeout``, ``stop_on_fatal`` and
            ``endpoint_kwargs``, as for ``Endpoint.map``.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self,
        endpoint: Endpoint[Any, Any, Any] | AsyncEndpoint[Any, Any, Any],
        *,
        input_column: str,
        output_column: str = "output",
        error_column: str | None = None,
        max_concurrency: int | None = None,
        params_column: str | None = None,
        ledger: str | os.PathLike[str] | None = None,
        **model_kwargs: Any,
    ) -> None:
        if not isinstance(endpoint, (Endpoint, AsyncEndpoint)):
            raise ConfigurationError(f"endpoint must be an Endpoint, not {type(endpoint).__name__}")
        if endpoint._caller.client is not None:
            raise ConfigurationError(
                "an endpoint made with client= cannot go to other processes: pass region_name and the like instead"
            )
        self.input_column = input_column
        self.output_column = output_column
        self.error_column = error_column
        self.params_column = params_column
        self._check_columns()
        # A worker may have another current directory.
        self.ledger = None if ledger is None else os.path.join(os.path.abspath(ledger), endpoint.endpoint_name)
        taken = sorted(_OUTPUTS.keys() & model_kwargs)
        if taken:
            raise ConfigurationError(f"the mapper itself decides how map gives outputs: leave out {', '.join(taken)}")
        self._model_kwargs = model_kwargs
        limit = checked_limit("max_concurrency", max_concurrency) or endpoint._caller.settings["concurrency"]
        changes: dict[str, Any] = {"s3_client": None, "concurrency": limit or AdaptiveConcurrency()}
        if params_column is not None:
            changes["content_handler"] = _RowHandler(endpoint.content_handler)
        # Made here, so that the endpoints of an unpickled mapper are unpickled ones, which share their connections.
        self._endpoint: Endpoint[Any, Any, Any] = remade(Endpoint, endpoint, **changes)
        self._awaited: AsyncEndpoint[Any, Any, Any] = remade(AsyncEndpoint, endpoint, **changes)

    def _check_columns(self) -> None:
        if self.output_column == self.error_column:
            raise ConfigurationError(f"outputs and errors need a column each, not both {self.output_column!r}")

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with the outputs of its rows.

        Raises:
            ConfigurationError: the batch is not a table, lacks a column, or already has one of the new columns.
            SmendpointError: a call failed, and there is no column for errors, or every later call would fail as well.
        """
        rows = _Rows(self, batch)
        answers: Any = self._endpoint.map(rows.asked, **_OUTPUTS, **self._model_kwargs)
        with closing(answers):
            for number, answer in answers:
                rows.settle(number, answer)
        return rows.table()

    async def acall(self, batch: Batch) -> Batch:
        """Return the batch with the outputs of its rows, for asyncio. Errors as for a plain call."""
        rows = _Rows(self, batch)
        answers: Any = self._awaited.map(rows.asked, **_OUTPUTS, **self._model_kwargs)
        async with aclosing(answers):
            async for number, answer in answers:
                rows.settle(number, answer)
        return rows.table()

    def with_errors_in(self, error_column: str | None) -> Self:
        """Return a mapper like this one with another column for errors; ``None`` raises them."""
        changed = object.__new__(type(self))
        vars(changed).update(vars(self), error_column=error_column)
        changed._check_columns()
        return changed

    @property
    def needed(self) -> list[str]:
        """The columns that a batch must have."""
        return [name for name in (self.input_column, self.params_column) if name is not None]

    @property
    def added(self) -> list[str]:
        """The new columns."""
        return [name for name in (self.output_column, self.error_column) if name is not None]

    def check(self, columns: list[str]) -> None:
        """Check the columns of a batch or a frame.

        Raises:
            ConfigurationError: a needed column is missing, or a new one already exists.
        """
        for name in self.needed:
            if columns.count(name) != 1:
                raise ConfigurationError(f"the batch has {columns.count(name)} columns {name!r}, among {columns}")
        for name in self.added:
            if name in columns:
                raise ConfigurationError(
                    f"the batch already has a column {name!r}: choose another name for the new one"
                )

    def decides(self) -> tuple[object, ...]:
        """Return what the outputs depend on besides the inputs, for an engine that caches them."""
        columns = self.input_column, self.params_column, self.output_column, self.error_column
        return (self.endpoint_name, self._endpoint.content_handler, self.parameters(), *columns)

    def parameters(self) -> dict[str, Any]:
        """Return the parts of every request besides its input: the parameters and members of the endpoint and
        mapper."""
        caller = self._endpoint._caller
        own = {name: value for name, value in self._model_kwargs.items() if name not in ("stop_on_fatal", "timeout")}
        members = {**caller.members, **(own.pop("endpoint_kwargs", None) or {})}
        return {**caller.model_kwargs, **own, **({"endpoint_kwargs": members} if members else {})}

    @property
    def endpoint_name(self) -> str:
        """The name of the SageMaker endpoint."""
        return self._endpoint.endpoint_name

    def close(self) -> None:
        """Close the mapper's connections. Those of asyncio close with their event loop, or with `aclose`."""
        self._endpoint.close()

    async def aclose(self) -> None:
        """Close the mapper's connections, including those of asyncio."""
        self._endpoint.close()
        await self._awaited.aclose()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        _arrived[:] = [self]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        columns = f"input_column={self.input_column!r}, output_column={self.output_column!r}"
        return f"TableMapper({self.endpoint_name!r}, {columns})"


# The mapper that this process unpickled last. Engines unpickle one for each task, and drop it afterwards. As long as
# one of a configuration exists, the next ones share its connections, credentials and limit.
_arrived: list[TableMapper] = []


class _Rows(Generic[Batch]):
    """The rows of one batch, on their way to their outputs.

    Attributes:
        asked: the inputs to send.
    """

    def __init__(self, mapper: TableMapper, batch: Batch) -> None:
        self._mapper = mapper
        self._batch = batch
        mapper.check(_columns.names(batch))
        inputs, *parameters = [_columns.cells(batch, name) for name in mapper.needed]
        self._cells: dict[str, list[Any]] = {name: [None] * len(inputs) for name in mapper.added}
        self._answers = None if mapper.ledger is None else answers_in(mapper.ledger)
        self._digests: list[str] = []
        self._places: list[list[int]] = []
        self.asked: list[Any] = []
        if self._answers is not None:
            self._answers.refresh()
        self._plan(inputs, *parameters)

    def _plan(self, inputs: list[Any], parameters: list[Any] | None = None) -> None:
        """Decide which rows are sent: not those with nulls or errors, and with a ledger each digest only once."""
        shared = self._mapper.parameters()
        planned: dict[str, list[int]] = {}
        for place, value in enumerate(inputs):
            if value is None:
                continue
            try:
                own = {} if parameters is None else _parameters(parameters[place])
                digest = "" if self._answers is None else digest_of(value, {**shared, **own})
            except HandlerError as error:
                self._put([place], error)
                continue
            if digest in planned:
                planned[digest].append(place)
                continue
            places = [place]
            if self._answers is not None:
                known = self._answers.find(digest)
                if known is not None:
                    self._put(places, known["output"])
                    continue
                planned[digest] = places
            self._digests.append(digest)
            self._places.append(places)
            self.asked.append(value if parameters is None else (value, own))

    def settle(self, number: int, answer: Any) -> None:
        """Take the output or the error of the input with this number in `asked`.

        Raises:
            SmendpointError: the error, if there is no column for it.
            LedgerError: the answer cannot be written.
        """
        if not isinstance(answer, Exception) and (self._answers is not None or _has_fields(answer)):
            try:
                if self._answers is not None:
                    self._answers.add(self._digests[number], answer)
                answer = json.loads(encode_output(answer))  # the same that a later run finds
            except HandlerError as error:
                answer = error
        self._put(self._places[number], answer)

    def _put(self, places: list[int], answer: Any) -> None:
        mapper = self._mapper
        if not isinstance(answer, Exception):
            name = mapper.output_column
        elif mapper.error_column is None:
            raise answer
        else:
            name, answer = mapper.error_column, f"{type(answer).__name__}: {answer}"
        for place in places:
            self._cells[name][place] = answer

    def table(self) -> Batch:
        """Return the batch with the new columns."""
        return _columns.with_columns(self._batch, self._cells, self._mapper.error_column)


class _RowHandler:
    """A content handler for pairs of an input and the parameters of its row."""

    def __init__(self, handler: ContentHandler[Any, Any]) -> None:
        self._handler = handler
        self.content_type = handler.content_type
        self.accepts = handler.accepts
        self.stop_parameter = getattr(handler, "stop_parameter", None)

    def transform_input(self, prompt: tuple[Any, dict[str, Any]], model_kwargs: dict[str, Any]) -> RequestBody:
        value, own = prompt
        return self._handler.transform_input(value, {**model_kwargs, **own})

    def transform_output(self, output: ResponseBody) -> Any:
        return self._handler.transform_output(output)


def _has_fields(output: Any) -> bool:
    """Return whether an output is an object of the handlers, or a list of them: columns take mappings instead."""
    while isinstance(output, list) and output:
        output = output[0]
    return isinstance(output, ChatCompletion) or dataclasses.is_dataclass(output)


def _parameters(given: Any) -> dict[str, Any]:
    """Return a row's parameters from its cell: a mapping, the pairs of an Arrow map, a JSON text, or null.

    Raises:
        HandlerError: it is something else.
    """
    try:
        if isinstance(given, str):
            given = json.loads(given)
        parameters = dict(given or {})
    except (TypeError, ValueError):
        raise HandlerError("a row's parameters must be a mapping, or the text of a JSON object") from None
    return {name: value for name, value in parameters.items() if value is not None}
