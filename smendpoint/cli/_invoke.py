"""``smendpoint invoke``: one call to a real endpoint."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from smendpoint._core.call.hooks import CallHooks, CallInfo, cold_start_reason
from smendpoint.cli._inputs import check_options, read_input, response_format, wants_chat
from smendpoint.cli._options import (
    HANDLERS,
    MORE_HANDLERS,
    add_handler_option,
    add_options,
    make_endpoint,
    make_handler,
    parameters,
)
from smendpoint.cli._terminal import Output, complain
from smendpoint.errors import ConfigurationError, HandlerError, ModelNotReadyError, ModelOutputError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint.handlers import Usage

ALL = {**HANDLERS, **MORE_HANDLERS}
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
# The handlers whose outputs are texts: a line end follows.
_TEXTS = ("text", "completions", "chat", "plain", "auto", "jumpstart-text", "jumpstart-chat")


EXAMPLES = """
smendpoint invoke my-llm "It rains. Question: Does it rain?" --stream --param max_new_tokens=64
smendpoint invoke my-chat "Who was Ada Lovelace?" --system "Be brief." --json
smendpoint invoke my-chat "Describe the picture." --attach photo.png
smendpoint invoke my-chat "Peter stayed for 3 days." --schema stay.json
smendpoint invoke my-embeddings '["one text", "another"]' --handler embeddings --handler-option format=openai
smendpoint invoke my-model --handler bytes --content-type text/csv < rows.csv
smendpoint invoke my-llm "A long task" --submit --upload-to s3://my-bucket/inputs/ --output answer.txt
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "invoke",
        help="call an endpoint",
        description="Calls a SageMaker endpoint and writes its output. The exit status is 1 if the call failed.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    parser.add_argument(
        "input",
        metavar="INPUT",
        nargs="?",
        help="the input, or for a chat also JSON messages; '-' or nothing: standard input",
    )
    group = parser.add_argument_group("handlers", "\n".join([f"{name:<18}{about}" for name, (_, about) in ALL.items()]))
    group.add_argument(
        "--handler",
        choices=ALL,
        metavar="NAME",
        help="the format of the container (default: text; chat with --system, --schema or --attach)",
    )
    add_handler_option(group)
    parser.add_argument("--stream", action="store_true", help="write the output as it arrives")
    parser.add_argument("--system", metavar="TEXT", help="a system message, before the other messages of a chat")
    parser.add_argument("--schema", metavar="FILE", help="a JSON schema for the answer (response_format)")
    parser.add_argument(
        "--attach", action="append", metavar="FILE", help="an image for the last message, or its URL; may be repeated"
    )
    parser.add_argument(
        "--json", action="store_true", help="write an object with output, usage, request id, attempts ..."
    )
    parser.add_argument("--output", metavar="FILE", help="write to this file; '-': standard output")
    parser.add_argument("--submit", action="store_true", help="use asynchronous inference, and wait for the output")
    parser.add_argument("--upload-to", metavar="S3URL", help="with --submit: upload the input there first")
    parser.add_argument("--dry-run", action="store_true", help="write the request, but send nothing")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="report attempts, status, variant and times on standard error"
    )
    add_options(parser)
    parser.set_defaults(run=run)


class Reports(CallHooks):
    """Reports on standard error that a call waits for its model, which may take minutes; with -v, each failed attempt.

    Attributes:
        call: the call, once it has started.
        first_byte_after: seconds from the call's start to the first byte of its answer; ``None`` before that.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self.call: CallInfo | None = None
        self.first_byte_after: float | None = None

    def call_started(self, call: CallInfo) -> None:
        self.call = call

    def first_byte(self, call: CallInfo) -> None:
        self.first_byte_after = call.elapsed

    def attempt_failed(self, call: CallInfo, error: SmendpointError, delay: float | None) -> None:
        if isinstance(error, ModelNotReadyError) and delay is not None:
            complain(f"{cold_start_reason(error)}: {call.elapsed:.0f} s have passed, next attempt in {delay:.0f} s")
        elif self._verbose:
            goes_on = "it is the last" if delay is None else f"next attempt in {delay:.1f} s"
            status = "" if call.status is None else f", status {call.status}"
            complain(f"attempt {call.attempts} failed: {type(error).__name__}{status}; {goes_on}")

    def summary(self, answer: _Call) -> str:
        """Describe the call in one line."""
        call, usage = self.call, answer.usage
        if call is None:
            return "nothing was sent"
        said = [f"status {call.status}" if call.status is not None else "no answer"]
        variant = answer.headers.get("x-amzn-invoked-production-variant")
        if variant:
            said.append(f"variant {variant}")
        said.append(f"{call.attempts} attempt{'' if call.attempts == 1 else 's'}")
        for name, value in (("first byte", self.first_byte_after), ("first chunk", answer.first_chunk)):
            if value is not None:
                said.append(f"{name} after {value:.3f} s")
        said.append(f"{answer.elapsed or call.elapsed:.3f} s in all")
        if usage is not None:
            said.append(f"{usage.prompt_tokens} + {usage.completion_tokens} tokens")
        if call.request_id:
            said.append(f"request id {call.request_id}")
        return ", ".join(said)


class _Target:
    """Writes the same bytes to standard output or to a file.

    Args:
        path: the file, which is created once there is something to write; ``None`` for standard output.

    Raises:
        ConfigurationError: the file could not be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._screen = Output()
        if path is not None and not may_write(path):
            raise ConfigurationError(f"--output: cannot write {path!r}")

    def text(self, text: str) -> None:
        """Write text at once."""
        if self._path is None:
            self._screen.text(text)
        else:
            self.data(text.encode(errors="backslashreplace"))

    def data(self, data: bytes) -> None:
        """Write bytes at once."""
        if self._path is None:
            self._screen.data(data)
            return
        if self._file is None:
            self._file = open(self._path, "wb")  # noqa: SIM115  # closed in `close`
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        """Write the text that was held back, and close the file."""
        if self._file is not None:
            self._file.close()
        self._screen.close()

    def end_line(self) -> None:
        """On a terminal, end the line of an output that was cut off, because a message follows."""
        if self._path is None and sys.stdout.isatty():
            self.text("\n")

    def output(self, output: Any) -> None:
        """Write an output, or a chunk of one."""
        if isinstance(output, bytes):
            self.data(output)
        elif isinstance(output, str):
            self.text(output)
        elif hasattr(output, "replace_text"):
            self.text(output.text)
        else:
            self.text(_dump(output) + "\n")


def may_write(path: str) -> bool:
    """Return whether a file can be written, as far as that can be known beforehand."""
    place = path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))
    return not os.path.isdir(path) and os.access(place, os.W_OK)


def _plain(value: Any) -> Any:
    """Convert a value to JSON values, as in a ledger."""
    from smendpoint.batch._values import encode_output

    return json.loads(encode_output(value))


def _dump(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False)


def _check(arguments: argparse.Namespace, handler: Any) -> None:
    check_options(arguments)
    if arguments.stream and arguments.submit:
        raise ConfigurationError("--stream cannot be used with --submit: asynchronous inference does not stream")
    if arguments.stream and not hasattr(handler, "stream_decoder"):
        raise ConfigurationError(f"--stream: the handler {arguments.handler!r} does not stream")
    if arguments.upload_to is not None and not arguments.submit:
        raise ConfigurationError("--upload-to needs --submit")


def run(arguments: argparse.Namespace) -> int:
    arguments.handler = arguments.handler or ("chat" if wants_chat(arguments) else "text")
    handler = make_handler(arguments, ALL)
    _check(arguments, handler)
    model = parameters(arguments.param)
    if arguments.schema is not None:
        model = {"response_format": response_format(arguments.schema), **model}
    out = _Target(None if arguments.output == "-" else arguments.output)
    reports = Reports(arguments.verbose)
    value = read_input(arguments, handler)
    try:
        with make_endpoint(arguments, handler, reports) as endpoint:
            call = _Call(arguments, endpoint, value, model, out)
            if arguments.dry_run:
                call.show()
                return 0
            try:
                call.make()
            finally:
                if arguments.verbose:
                    complain(reports.summary(call))
            if arguments.json:
                out.text(_dump(call.described(reports)) + "\n")
    except HandlerError as error:
        if reports.call is None:  # the input is not valid: nothing was sent
            raise ConfigurationError(error.message) from None
        raise
    finally:
        out.close()
    if arguments.schema is not None:
        _check_json(call)
    return 0


class _Call:
    """The call, and the known facts about its answer.

    Attributes:
        output: the output.
        headers: the headers of the answer.
        usage: the token counts; ``None`` if the model gave none.
        finish_reason: why the model stopped; ``None`` if it did not say.
        elapsed: seconds from the call's start to its end; with asynchronous inference, to its output.
        first_chunk: seconds from the start of a stream to its first chunk.
        locations: the location of the output of asynchronous inference, and the id of the request there.
    """

    def __init__(
        self, arguments: argparse.Namespace, endpoint: Any, value: Any, model: dict[str, Any], out: _Target
    ) -> None:
        self._arguments = arguments
        self._endpoint = endpoint
        self._value = value
        self._model = {"parameters": model}
        self._out = out
        self.output: Any = None
        self.headers: Mapping[str, str] = {}
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.elapsed = 0.0
        self.first_chunk: float | None = None
        self.locations: dict[str, Any] = {}

    def make(self) -> None:
        """Make the call, and write its output, unless ``--json`` writes an object instead."""
        if self._arguments.submit:
            self._submit()
        elif self._arguments.stream:
            self._stream()
        else:
            response = self._endpoint.send(self._value, stop=self._arguments.stop, **self._model)
            self.output, self.headers, self.elapsed = response.output, response.headers, response.elapsed
            self.usage, self.finish_reason = response.usage, response.finish_reason
        if self._arguments.json:
            return
        if not self._arguments.stream:
            self._out.output(self.output)
        calls = getattr(self.output, "tool_calls", None)
        if calls and not self.output.text:
            self._out.text(_dump([call._asdict() for call in calls]))
        if self._arguments.handler in _TEXTS:
            self._out.text("\n")

    def _stream(self) -> None:
        with self._endpoint.stream(self._value, stop=self._arguments.stop, **self._model) as chunks:
            try:
                for chunk in chunks:
                    if not self._arguments.json:
                        self._out.output(chunk)
            except BaseException:
                self._out.end_line()
                raise
        self.headers, self.elapsed = chunks.headers, chunks.elapsed
        if self._arguments.json or self._arguments.schema is not None:
            self.output = chunks.completion
        else:  # a chat's decoder may have tool calls; others need not keep the chunks
            self.output = getattr(chunks.decoder, "completion", None)
        self.usage, self.finish_reason = chunks.usage, chunks.finish_reason
        self.first_chunk = chunks.time_to_first_chunk

    def _submit(self) -> None:
        arguments, began = self._arguments, time.monotonic()
        handle = self._endpoint.submit(self._value, upload_to=arguments.upload_to, stop=arguments.stop, **self._model)
        self.locations = {"output_location": handle.output_location, "inference_id": handle.inference_id}
        complain(f"submitted as {handle.inference_id}; waiting for {handle.output_location}")
        self.output = handle.result()
        self.elapsed = time.monotonic() - began
        self.usage = getattr(self.output, "usage", None)
        self.finish_reason = getattr(self.output, "finish_reason", None)

    def described(self, reports: Reports) -> dict[str, Any]:
        """Return the object that ``--json`` writes."""
        call = reports.call
        assert call is not None
        streamed = {} if self.first_chunk is None else {"time_to_first_chunk": round(self.first_chunk, 6)}
        return {
            "output": _plain(self.output),
            "finish_reason": self.finish_reason,
            "usage": None if self.usage is None else self.usage._asdict(),
            "request_id": call.request_id,
            "attempts": call.attempts,
            "elapsed": round(self.elapsed, 6),
            **streamed,
            **self.locations,
        }

    def show(self) -> None:
        """Write the request that would be sent, without its signature."""
        from smendpoint._calls.inference import make_submission
        from smendpoint._core.aws.operations import INVOKE_ENDPOINT, INVOKE_ENDPOINT_ASYNC, INVOKE_ENDPOINT_STREAM

        arguments, caller = self._arguments, self._endpoint._caller
        if arguments.submit:
            how: Any = (arguments.upload_to, arguments.stop, None, {}, self._model)
            request, upload, _ = make_submission(caller, INVOKE_ENDPOINT_ASYNC, self._value, *how)
        else:
            operation = INVOKE_ENDPOINT_STREAM if arguments.stream else INVOKE_ENDPOINT
            request, _ = self._endpoint._request(operation, self._value, arguments.stop, None, None, self._model)
            upload = None
        body = request.body if upload is None else upload.body
        url = f"{caller.transport.resolve().url}{request.head.path}"
        headers = {name: value for name, value in request.head.headers if value}
        if _ATTRIBUTES in headers:
            headers[_ATTRIBUTES] = "(not shown)"  # it may be a secret
        if arguments.json:
            try:
                shown: Any = json.loads(body)
            except ValueError:
                shown = _text_or_bytes(body)
            self._out.text(_dump({"method": "POST", "url": url, "headers": headers, "body": shown}) + "\n")
        else:
            self._out.text(
                "\n".join([f"POST {url}", *(f"{name}: {value}" for name, value in headers.items())]) + "\n\n"
            )
            self._out.data(body)
            self._out.text("\n")
        complain("nothing was sent")


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _check_json(call: _Call) -> None:
    """Raise `ModelOutputError` if an answer to a schema is not JSON."""
    text = call.output if isinstance(call.output, str) else call.output.text
    try:
        json.loads(text)
    except ValueError:
        raise ModelOutputError(
            f"the answer is not JSON, although --schema was set (finish reason {call.finish_reason})",
            text=text,
            finish_reason=call.finish_reason,
            endpoint_name=call._endpoint.endpoint_name,
        ) from None
