"""Requests: which members each operation has, and how they are checked and rendered.

The tables here, and those in ``routing``, repeat botocore's service models as data: this one ``sagemaker-runtime``
(version 2017-05-13). Tests compare them with the installed models. The models' patterns are left out: when AWS widens
one, a deployed version must not refuse values that the service accepts. Only checks that protect are made: of a name
in the path, a region in the host, characters that a header cannot hold, and lengths.
"""

# Without `from __future__ import annotations`, for a quick cold start: see `_core`.
from collections.abc import Mapping
from math import isfinite
from typing import NamedTuple

from smendpoint._core.aws.sigv4 import VISIBLE, percent_encode
from smendpoint.errors import ConfigurationError

RECOMMENDED_MAX_BODY = 6_291_456
"""Bytes: the limit of the service's API model for a body (6 MiB), from its definition in botocore. The service
itself accepts more, see ``SERVICE_MAX_BODY``: a larger body is sent, with a warning."""

SERVICE_MAX_BODY = 26_214_400
"""Bytes: the largest request body that the service accepts before it answers 413 (25 MB in SageMaker's quotas for
real-time inference, which count in units of 1,048,576 bytes)."""

MAX_ASYNC_BODY = 128_000
"""Bytes: the limit of InvokeEndpointAsync for a body in the request; larger inputs go through Amazon S3."""

_DIGITS = frozenset("0123456789")
_ALNUM = _DIGITS | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_LABEL = _ALNUM | {"-"}
_LABEL_FORM = "letters, digits and hyphens, with a letter or digit at both ends"


def plain(text: str) -> str:
    """Return the text as an exact ``str``: a subclass, such as an ``Enum``, may format as something else."""
    return str.__str__(text)


def _checked_text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must be a str, not {type(value).__name__}")
    return plain(value)


class Member:
    """One request member that is sent as a header.

    Attributes:
        header: the header's name.
        maximum: the maximum length in characters, or the maximum number; `None` if the service names none.
        minimum: the minimum length in characters, or the minimum number. An empty header means
            the same as none, or the service refuses it.
        number: whether the value is an ``int``.
    """

    __slots__ = ("header", "maximum", "minimum", "number")

    def __init__(self, header: str, maximum: int | None, *, minimum: int = 1, number: bool = False) -> None:
        self.header = header
        self.maximum = maximum
        self.minimum = minimum
        self.number = number

    def render(self, name: str, value: object) -> str:
        """Check the value of the member `name`, and give the header's text.

        Raises:
            ConfigurationError: the value is not valid; the message gives the reason without showing a text.
        """
        if self.number:
            return self._render_number(name, value)
        text = _checked_text(name, value)
        most = self.maximum or len(text)
        if not self.minimum <= len(text) <= most:
            raise ConfigurationError(f"{name} must have {self.minimum} to {most} characters, not {len(text)}")
        if not (text.isascii() and text.isprintable()):
            at, bad = next((i, c) for i, c in enumerate(text, 1) if not " " <= c <= "~")
            raise ConfigurationError(
                f"{name} must be visible ASCII characters and spaces: character {at} is U+{ord(bad):04X}"
            )
        return text

    def _render_number(self, name: str, value: object) -> str:
        # True is an int in Python, but not a number of seconds.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigurationError(f"{name} must be an int, not {type(value).__name__}")
        assert self.maximum is not None  # numbers have one
        if not self.minimum <= value <= self.maximum:
            # Python refuses to print integers of thousands of digits.
            shown = value if value.bit_length() <= 64 else "a number of more than 64 bits"
            raise ConfigurationError(f"{name} must be from {self.minimum} to {self.maximum}, not {shown}")
        return int.__repr__(value)


class Service(NamedTuple):
    """A service that runs inference.

    Attributes:
        name: botocore's name of it.
        host: the beginning of its hosts, up to the region.
        path: the first segment of its paths.
        name_member: AWS's name of the member that says what is called: an endpoint, a router or a gateway.
        name_word: the words for that member in messages.
        longest_name: how many characters that member may have.
        invoke: AWS's name of the operation that returns a whole answer.
        max_body: the limit of its API model for a request body, in bytes.
        refused_above: the number of bytes above which it answers a request with 413.
        read_timeout: the limit for silence in seconds, if nothing sets one; `None` for that of `Timeout`.
    """

    name: str
    host: str
    path: str
    name_member: str
    name_word: str
    longest_name: int
    invoke: str
    max_body: int
    refused_above: int
    read_timeout: float | None = None

    @property
    def url_variable(self) -> str:
        """The environment variable that can set its URL."""
        return f"AWS_ENDPOINT_URL_{self.name.upper().replace('-', '_')}"

    def checked_name(self, name: object) -> str:
        """Check the name of what is called, as `validate_endpoint_name` does."""
        return validate_endpoint_name(name, self.name_word, self.longest_name)


RUNTIME = Service(
    name="sagemaker-runtime",
    host="runtime.sagemaker",
    path="endpoints",
    name_member="EndpointName",
    name_word="the endpoint name",
    longest_name=63,
    invoke="InvokeEndpoint",
    max_body=RECOMMENDED_MAX_BODY,
    refused_above=SERVICE_MAX_BODY,
)


class Operation:
    """One operation of a service.

    Attributes:
        name: AWS's name of the operation.
        path_suffix: the last segment of its path.
        members: the request members by AWS name, except ``Body`` and the name of what is called.
        outputs: the response members that are sent as headers: the lower-case header name by AWS name.
        service: the service that has it.
        required: the request members that it cannot do without.
        streaming: whether its answer is a stream.
        conversing: whether its request is one too, both at the same time.
        queued: whether it is asynchronous inference, which has a queue.
    """

    __slots__ = (
        "conversing",
        "members",
        "name",
        "outputs",
        "path_suffix",
        "queued",
        "required",
        "service",
        "streaming",
    )

    def __init__(
        self,
        name: str,
        path_suffix: str,
        members: Mapping[str, Member],
        outputs: Mapping[str, str],
        service: Service = RUNTIME,
        required: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.path_suffix = path_suffix
        self.members = members
        self.outputs = outputs
        self.service = service
        self.required = required
        self.conversing = path_suffix == "invocations-bidirectional-stream"
        self.streaming = self.conversing or path_suffix == "invocations-response-stream"
        self.queued = path_suffix == "async-invocations"


class RequestHead(NamedTuple):
    """The part of a request that its members decide, without ``Host``, length and signature."""

    path: str
    headers: tuple[tuple[str, str], ...]


_PREFIX = "X-Amzn-SageMaker-"
# Streams and asynchronous inference use `Accept` for the type of their own answer, and this header for the model's.
_MODELS_ACCEPT = Member(_PREFIX + "Accept", 1024)

_MEMBERS = {
    "ContentType": Member("Content-Type", 1024),
    "Accept": Member("Accept", 1024),
    "CustomAttributes": Member(_PREFIX + "Custom-Attributes", 1024),
    "TargetModel": Member(_PREFIX + "Target-Model", 1024),
    "TargetVariant": Member(_PREFIX + "Target-Variant", 63),
    "TargetContainerHostname": Member(_PREFIX + "Target-Container-Hostname", 63),
    "InferenceId": Member(_PREFIX + "Inference-Id", 64),
    "EnableExplanations": Member(_PREFIX + "Enable-Explanations", 64),
    "InferenceComponentName": Member(_PREFIX + "Inference-Component", 63),
    "SessionId": Member(_PREFIX + "Session-Id", 256),
    "PrefixAwareId": Member(_PREFIX + "Prefix-Aware-Id", 64),
}
_OUTPUTS = {
    "ContentType": "content-type",
    "InvokedProductionVariant": "x-amzn-invoked-production-variant",
    "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
}

INVOKE_ENDPOINT = Operation(
    "InvokeEndpoint",
    "invocations",
    _MEMBERS,
    {
        **_OUTPUTS,
        "NewSessionId": "x-amzn-sagemaker-new-session-id",
        "ClosedSessionId": "x-amzn-sagemaker-closed-session-id",
    },
)

INVOKE_ENDPOINT_STREAM = Operation(
    "InvokeEndpointWithResponseStream",
    "invocations-response-stream",
    {
        name: _MODELS_ACCEPT if name == "Accept" else member
        for name, member in _MEMBERS.items()
        if name not in ("TargetModel", "EnableExplanations")
    },
    {**_OUTPUTS, "ContentType": "x-amzn-sagemaker-content-type"},
)

INVOKE_ENDPOINT_ASYNC = Operation(
    "InvokeEndpointAsync",
    "async-invocations",
    {
        "ContentType": Member(_PREFIX + "Content-Type", 1024),
        "Accept": _MODELS_ACCEPT,
        "CustomAttributes": _MEMBERS["CustomAttributes"],
        "InferenceId": _MEMBERS["InferenceId"],
        "InputLocation": Member(_PREFIX + "InputLocation", 1024),
        "S3OutputPathExtension": Member(_PREFIX + "S3OutputPathExtension", 512),
        "Filename": Member(_PREFIX + "Filename", 32),
        "RequestTTLSeconds": Member(_PREFIX + "RequestTTLSeconds", 21_600, minimum=60, number=True),
        "InvocationTimeoutSeconds": Member(_PREFIX + "InvocationTimeoutSeconds", 3_600, number=True),
    },
    # InferenceId, its only other output, is in the JSON body.
    {
        "OutputLocation": "x-amzn-sagemaker-outputlocation",
        "FailureLocation": "x-amzn-sagemaker-failurelocation",
    },
)

OPERATIONS = (INVOKE_ENDPOINT, INVOKE_ENDPOINT_STREAM, INVOKE_ENDPOINT_ASYNC)

# Of another service, "SageMaker Runtime HTTP2" (version 2025-10-01), of which botocore has no model.
INVOKE_ENDPOINT_CONVERSATION = Operation(
    "InvokeEndpointWithBidirectionalStream",
    "invocations-bidirectional-stream",
    {
        "TargetVariant": _MEMBERS["TargetVariant"],
        "ModelInvocationPath": Member(_PREFIX + "Model-Invocation-Path", 100),
        "ModelQueryString": Member(_PREFIX + "Model-Query-String", 2048),
    },
    {},
)


def _is_label(text: str, longest: int = 63) -> bool:
    return 1 <= len(text) <= longest and _LABEL.issuperset(text) and text[0] != "-" and text[-1] != "-"


def _shown(value: str) -> str:
    return ascii(value if len(value) <= 80 else value[:80] + "...")


def validate_endpoint_name(name: object, what: str = "the endpoint name", longest: int = 63) -> str:
    """Check a name that becomes a segment of the path, and return it as a ``str``; messages call it `what`.

    Raises:
        ConfigurationError: it is not such a name, and could change the path of the request.
    """
    text = _checked_text(what, name)
    if not _is_label(text, longest):
        hint = ": pass only the name, not an ARN or a URL" if text.startswith(("arn:", "http:", "https:")) else ""
        raise ConfigurationError(f"{what} must be 1 to {longest} {_LABEL_FORM}, not {_shown(text)}{hint}")
    return text


def validate_region(region: object, source: str = "") -> str:
    """Check a region's name, which becomes part of a host name, and give it as a ``str``.

    Args:
        region: the name.
        source: the setting that has it, for the message.

    Raises:
        ConfigurationError: it is not a host label, and could change the host that is called.
    """
    what = f"the region from {source}" if source else "the region"
    text = _checked_text(what, region)
    if not _is_label(text) or _DIGITS.issuperset(text):
        raise ConfigurationError(
            f"{what} must be a name such as 'us-east-1' ({_LABEL_FORM}, not only digits), not {_shown(text)}"
        )
    return text


def validate_invocation_path(path: object) -> str:
    """Check a path in the model's container, such as ``"v1/listen"``, and give it as a ``str``.

    Raises:
        ConfigurationError: it is not such a path, and could become another one on its way.
    """
    text = _checked_text("the path", path)
    if not VISIBLE.issuperset(map(ord, text)) or "?" in text or "#" in text:
        raise ConfigurationError(
            f"the path must be visible ASCII characters without '?' and '#', not {_shown(text)}: encode others with"
            " percent signs, and pass a query as a mapping"
        )
    if any(segment in ("", ".", "..") for segment in text.split("/")):
        raise ConfigurationError(
            f"the path must be segments with one '/' between two of them, such as 'v1/listen', not {_shown(text)}:"
            " no segment is empty, '.' or '..', and there is no '/' at either end"
        )
    return text


def render_query(query: Mapping[str, object]) -> str:
    """Render a query string; an empty mapping gives ``""``.

    Args:
        query: values by name: a ``str``, an ``int``, a finite ``float``, a ``bool`` (``true`` or ``false``), or a list
            or tuple of these for a name that is repeated.

    Raises:
        ConfigurationError: a name or a value is of another type, or not Unicode; the message does not show it.
    """
    if not isinstance(query, Mapping):
        raise ConfigurationError(f"the query must be a mapping, not {type(query).__name__}")
    pairs = []
    for name, values in query.items():
        encoded = _percent_encoded("a name in the query", _checked_text("a name in the query", name))
        what = f"the value of {_shown(name)} in the query"
        for value in values if isinstance(values, (list, tuple)) else (values,):
            pairs.append(f"{encoded}={_percent_encoded(what, _query_text(what, value))}")
    return "&".join(pairs)


def _query_text(what: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Python refuses to print integers of thousands of digits.
    if isinstance(value, int) and value.bit_length() <= 64:
        return int.__repr__(value)
    if isinstance(value, float) and isfinite(value):
        return float.__repr__(value)
    if isinstance(value, (int, float)):
        raise ConfigurationError(f"{what} must be a finite number of at most 64 bits")
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{what} must be a str, int, float or bool, or a list or tuple of these, not {type(value).__name__}"
        )
    return plain(value)


def _percent_encoded(what: str, text: str) -> str:
    try:
        return percent_encode(text)
    except UnicodeEncodeError:  # its message would show the text
        raise ConfigurationError(f"{what} has unpaired surrogates") from None


def _unknown_member(operation: Operation, name: object) -> ConfigurationError:
    known = ", ".join(operation.members)
    if name == operation.service.name_member:
        return ConfigurationError(f"{name} cannot be set: the constructor has it")
    if name == "Body":
        return ConfigurationError("Body cannot be set: the content handler makes it")
    shown = _shown(name) if isinstance(name, str) else f"a key of type {type(name).__name__}"
    elsewhere = [other.name for other in (*OPERATIONS, INVOKE_ENDPOINT_CONVERSATION) if name in other.members]
    where = f" ({' and '.join(elsewhere)} has it)" if elsewhere else ""
    return ConfigurationError(f"{operation.name} has no member {shown}{where}; it has {known}")


def request_head(operation: Operation, name: str, members: Mapping[str, object]) -> RequestHead:
    """Check the members of a request, except ``Body``, and render its path and headers in their order.

    Raises:
        ConfigurationError: a name or a value is not valid, or a member is missing.
    """
    service = operation.service
    path = f"/{service.path}/{service.checked_name(name)}/{operation.path_suffix}"
    missing = [member for member in operation.required if member not in members]
    if missing:
        raise ConfigurationError(f"{operation.name} needs {' and '.join(missing)}")
    headers: list[tuple[str, str]] = []
    for key, value in members.items():
        member = operation.members.get(key)
        if member is None:
            raise _unknown_member(operation, key)
        headers.append((member.header, member.render(key, value)))
    return RequestHead(path, tuple(headers))
