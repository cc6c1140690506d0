"""The lines of a ledger: how they are written and read. Their format is a page of the reference."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from smendpoint._core.json import parse_json
from smendpoint.batch._openai import request_name
from smendpoint.batch._values import encode_output
from smendpoint.errors import SmendpointError

if TYPE_CHECKING:
    from smendpoint.batch._rows import Row
    from smendpoint.handlers.base import Usage

# Every line begins with it, and so does the rest of a line that was torn.
_BEGINNING = b'{"id":"'

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Line(NamedTuple):
    """The part of a line that the index keeps."""

    id: str
    digest: str
    succeeded: bool


def success_line(
    row: Row,
    output: Any,
    *,
    usage: Usage | None = None,
    elapsed: float | None = None,
    attempts: int = 1,
    request_id: str | None = None,
) -> bytes:
    """Write the line of an answer.

    Args:
        row: the row of the answer.
        output: the answer; in OpenAI's format the body of its response.
        usage: the token counts, if the model gave them.
        elapsed: seconds that the call took.
        attempts: how many requests were sent; only OpenAI's format has it.
        request_id: AWS's id of the request; only OpenAI's format has it.

    Raises:
        HandlerError: JSON cannot express the output.
    """
    if row.openai:
        response = {"status_code": 200, "request_id": request_id}
        head, said = encode_output(response)[:-1], encode_output(output)
        answer = f'"response":{head},"body":{said}}},"error":null,"attempts":{attempts}'
    else:
        answer = f'"output":{encode_output(output)}'
        if usage is not None:
            answer += f',"usage":{encode_output(usage._asdict())}'
    return _line(row, answer, elapsed)


def failure_line(row: Row, error: BaseException, *, elapsed: float | None = None) -> bytes:
    """Write the line of a failure.

    Args:
        row: the row that failed.
        error: the reason.
        elapsed: seconds that the call took.
    """
    code = getattr(error, "code", None) or getattr(error, "error_code", None)
    fields = {
        "type": type(error).__name__,
        "message": error.message if isinstance(error, SmendpointError) else str(error),
        "code": None if code is None else str(code),
        "status": getattr(error, "status", None),
        "request_id": getattr(error, "request_id", None),
        "attempts": getattr(error, "attempts", 0),
    }
    text = getattr(error, "text", "")
    if text:  # of an answer that does not match a handler's `output_type`
        fields["text"] = text
    if not row.openai:
        return _line(row, f'"error":{encode_output(fields)}', elapsed)
    attempts = fields["attempts"]
    said = {"code": fields["code"] or fields["type"], "message": fields["message"]}
    if fields["status"] is None:  # the call had no answer
        whole: dict[str, Any] = {"response": None, "error": said, "attempts": attempts}
    else:
        body = {"error": {**said, "type": fields["type"], "param": None}}
        response = {"status_code": fields["status"], "request_id": fields["request_id"], "body": body}
        whole = {"response": response, "error": None, "attempts": attempts}
    return _line(row, encode_output(whole)[1:-1], elapsed)


def _line(row: Row, answer: str, elapsed: float | None) -> bytes:
    id = encode_output(row.id)
    if row.openai:
        id = f'"{request_name(row.id)}","custom_id":{id}'
    took = "" if elapsed is None else f',"elapsed":{round(elapsed, 6)}'
    # UTF-8 cannot express half of a surrogate pair, and Python escapes it as JSON does.
    return f'{{"id":{id},"digest":"{row.digest}",{answer}{took}}}\n'.encode(errors="backslashreplace")


def parse_line(line: bytes) -> dict[str, Any] | None:
    """Parse a line; ``None`` if it is not a JSON object."""
    try:
        value = parse_json(line.decode())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_line(line: bytes) -> Line | None:
    """Read a line; ``None`` if it is not a line of a ledger."""
    value = parse_line(line)
    if value is None:
        return None
    id, digest, error = value.get("id"), value.get("digest"), value.get("error")
    succeeded = error is None and "output" in value
    if "custom_id" in value:
        id, response = value["custom_id"], value.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        succeeded = error is None and status == 200
        error = error or status
    if not isinstance(id, str) or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    return Line(id, digest, succeeded) if succeeded or error is not None else None


def is_torn(line: bytes) -> bool:
    """Return whether these bytes are the beginning of a line, and not another text without a line end."""
    begins = line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
    return begins and parse_line(line) is None
