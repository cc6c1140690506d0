"""Rows in, predictions out: scikit-learn, XGBoost, TF Serving, SageMaker's built-in algorithms, and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, cast

from smendpoint.errors import ConfigurationError, HandlerError
from smendpoint.handlers import _tables
from smendpoint.handlers._json import decode_json, describe, refuse_parameters
from smendpoint.handlers._npy import MAGIC, exact_array, import_numpy, read_npy, write_npy
from smendpoint.handlers._numbers import convert, read_predictions
from smendpoint.handlers._shapes import raise_for_error, unknown_shape

if TYPE_CHECKING:
    import numpy
    import numpy.typing
    from typing_extensions import TypeVar

    from smendpoint._container_errors import JSONValue
    from smendpoint._core.http.body import ResponseBody

    T = TypeVar("T", default=float)
else:
    from typing import TypeVar  # Only type checkers need the default, which Python supports from 3.13 on.

    T = TypeVar("T")

__all__ = ["READERS", "NumPyHandler", "RequestTable", "ResponseTable", "TabularHandler", "TabularRowsHandler"]

RequestTable: TypeAlias = Literal["csv", "json", "instances", "jsonlines", "libsvm", "npy"]
ResponseTable: TypeAlias = Literal["csv", "json", "jsonlines", "npy"]


def _read_json(body: bytes) -> JSONValue:
    return decode_json(body, "TabularHandler")


def _read_json_lines(body: bytes) -> JSONValue:
    lines = [_read_json(line) for line in body.split(b"\n") if line.strip()]
    if len(lines) == 1 and isinstance(lines[0], dict) and "predictions" in lines[0]:
        return lines[0]
    return lines


# The media type of each format and its writer.
WRITERS = {
    "csv": ("text/csv", _tables.write_csv),
    "json": ("application/json", _tables.write_json),
    "instances": ("application/json", _tables.write_instances),
    "jsonlines": ("application/jsonlines", _tables.write_json_lines),
    "libsvm": ("text/libsvm", _tables.write_libsvm),
    "npy": ("application/x-npy", write_npy),
}
# The media type of each format, its reader, and the handler for an answer whose values do not fit any `dtype`.
READERS = {
    "csv": ("text/csv", _tables.read_csv, "TextHandler"),
    "json": ("application/json", _read_json, "JSONHandler"),
    "jsonlines": ("application/jsonlines", _read_json_lines, "TextHandler"),
    "npy": ("application/x-npy", read_npy, "NumPyHandler"),
}


class _Table(Generic[T]):
    """Writes rows and reads predictions, for both tabular handlers."""

    __slots__ = ("accepts", "content_type", "dtype", "key", "request", "response")

    stop_parameter: str | None = None
    takes_many = True

    def __init__(
        self,
        request: RequestTable = "csv",
        response: ResponseTable = "csv",
        *,
        dtype: type[T] = float,  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]  # T's own default
        key: str | None = None,
    ) -> None:
        for name, value, known in (("request", request, WRITERS), ("response", response, READERS)):
            if value not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if dtype not in (float, int, str):
            raise ConfigurationError(f"dtype must be float, int or str, not {dtype!r}")
        self.request = request
        self.response = response
        self.dtype: type[Any] = dtype
        self.key = key
        self.content_type = WRITERS[request][0]
        self.accepts = READERS[response][0]

    def transform_input(self, prompt: Any, model_kwargs: dict[str, Any]) -> bytes:
        """Return the rows in the chosen format, which has no place for model parameters.

        Args:
            prompt: a list of rows, one row, a NumPy array, a frame of pandas or polars, or an Arrow table. For libsvm a
                row may be a mapping from indices, from 0, to values; for JSON and JSON lines it may be a mapping that
                is sent unchanged.
            model_kwargs: must be empty.

        Raises:
            HandlerError: the format cannot hold a value, or would change it.
        """
        refuse_parameters(type(self).__name__, model_kwargs)
        return WRITERS[self.request][1](prompt)

    def _items(self, output: bytes) -> tuple[list[JSONValue], str]:
        """Return the predictions, each a value or a list of values, and where they are, for messages."""
        value = READERS[self.response][1](output)
        raise_for_error(value)
        found = read_predictions(value, self.key, type(self).__name__)
        if found is None:
            expected = 'a list, or "predictions", "scores", "projections" or (from TF Serving) "outputs"'
            raise unknown_shape(value, type(self).__name__, expected)
        return found

    def _rows(self, items: list[JSONValue], where: str) -> list[list[T]]:
        return [[self._value(value, where) for value in (item if isinstance(item, list) else [item])] for item in items]

    def _value(self, value: JSONValue, where: str) -> T:
        converted: T | None = convert(value, self.dtype)
        if converted is None:
            plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
            advice = "Choose another dtype" if plain else f"{READERS[self.response][2]} returns the answer unchanged"
            raise HandlerError(
                f"{type(self).__name__} expects predictions of the type {self.dtype.__name__}, "
                f"but finds one that is not{where}: {describe(value)}. {advice}."
            )
        return converted


class TabularHandler(_Table[T]):
    """Rows in, one prediction for each out: ``list[float]``, or a list of the ``dtype``.

    Args:
        request: how the rows are sent: ``"csv"``, ``"json"``, ``"instances"`` (JSON: ``{"instances": rows}``, for TF
            Serving, MLflow and SageMaker's built-in algorithms), ``"jsonlines"``, ``"libsvm"`` (XGBoost) or
            ``"npy"`` (scikit-learn). It sets the content type.
        response: the format of the answer, requested with ``Accept``: ``"csv"``, ``"json"``, ``"jsonlines"`` or
            ``"npy"``.
        dtype: the type of a prediction: ``float``, ``int`` or ``str`` (labels).
        key: the field to take from a prediction that is an object, such as linear learner's ``"predicted_label"``;
            ``None`` takes its only one, its ``score`` or (k-means) its ``closest_cluster``. If TF Serving answers with
            several outputs, the output to take.
    """

    __slots__ = ()

    def transform_output(self, output: ResponseBody) -> list[T]:
        """Return the predictions. In CSV they may be in one line, or one in each line.

        Raises:
            HandlerError: the answer has another shape, such as several values for a row, or another type of value.
        """
        items, where = self._items(output)
        if self.response == "csv" and len(items) == 1 and not _tables.is_bracketed(output):
            items = cast("list[JSONValue]", items[0])  # the only line
        several = next((item for item in items if isinstance(item, list) and len(item) != 1), None)
        if several is not None:
            self._rows(items, where)  # a value of another type is reported first
            raise HandlerError(
                f"TabularHandler expects one value for each row, but this answer has {len(several)} for "
                f"one{where}: TabularRowsHandler reads it."
            )
        return [self._value(item[0] if isinstance(item, list) else item, where) for item in items]


class TabularRowsHandler(_Table[T]):
    """Rows in, a list of values for each out, such as the probability of every class: ``list[list[float]]``.

    The arguments are those of `TabularHandler`; ``dtype`` is the type of each value.
    """

    __slots__ = ()

    def transform_output(self, output: ResponseBody) -> list[list[T]]:
        """Return the values of each row.

        Raises:
            HandlerError: the answer has another shape, or another type of value.
        """
        return self._rows(*self._items(output))


class NumPyHandler:
    """A NumPy array in, a NumPy array out, as ``application/x-npy`` (scikit-learn and other toolkits).

    Needs NumPy (the extra ``smendpoint[numpy]``); ``TabularHandler("npy", "npy")`` handles lists without it.
    """

    __slots__ = ()

    content_type = "application/x-npy"
    accepts = "application/x-npy"
    stop_parameter: str | None = None
    takes_many = True

    def transform_input(self, prompt: numpy.typing.ArrayLike, model_kwargs: dict[str, Any]) -> bytes:
        """Return the array's bytes. The format has no place for model parameters.

        Raises:
            HandlerError: NumPy is not installed, cannot make an array of plain values from the input, or would change a
                value, such as a large integer next to a float.
        """
        from io import BytesIO

        refuse_parameters(type(self).__name__, model_kwargs)
        np = import_numpy("NumPyHandler")
        buffer = BytesIO()
        try:
            np.save(buffer, exact_array(np, prompt), allow_pickle=False)
        except (TypeError, ValueError, OverflowError) as error:
            raise HandlerError(f"NumPy cannot make an array of plain values ({type(error).__name__}).") from None
        return buffer.getvalue()

    def transform_output(self, output: ResponseBody) -> numpy.ndarray[Any, Any]:
        """Return the array. An array of Python objects is refused, because reading it can run code.

        Raises:
            HandlerError: NumPy is not installed, or the answer is not a whole array of plain values.
        """
        from io import BytesIO

        np = import_numpy("NumPyHandler")
        if not output.startswith(MAGIC):
            raise HandlerError(
                f"NumPyHandler expects a NumPy array (.npy), but the answer of {len(output)} bytes is not one."
            )
        try:
            array: numpy.ndarray[Any, Any] = np.load(BytesIO(output), allow_pickle=False)
        # NumPy does not document the type: ValueError, EOFError, SyntaxError, MemoryError ...
        except Exception as error:
            raise HandlerError(
                f"The answer is not a whole NumPy array of plain values ({type(error).__name__})."
            ) from None
        return array
