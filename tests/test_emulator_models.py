"""The models of an emulator: they are checked when they are set, and each answer is an answer or an error."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from emulator_client import RawClient, call, request

from smendpoint.emulator import Emulator, ModelReply, ModelRequest, forward, personalities
from smendpoint.errors import ConfigurationError


class Instance:
    def __call__(self, asked: ModelRequest) -> bytes:
        return b'"instance"'

    def method(self, asked: ModelRequest) -> bytes:
        return b'"method"'

    async def coroutine(self, asked: ModelRequest) -> bytes:
        return b'"coroutine"'


def with_defaults(asked: ModelRequest, more: int = 1, *rest: int, **others: int) -> bytes:
    return b'"defaults"'


def ask(emulator: Emulator, kind: str = "invoke", body: bytes = b"{}", path: str | None = None) -> tuple[int, bytes]:
    head, answer = call(emulator, request(kind, body, path=path))
    return int(head.split()[1]), answer


GOOD = [
    Instance(),
    Instance().method,
    Instance().coroutine,
    with_defaults,
    functools.partial(with_defaults, more=2),
    lambda *arguments: b'"any"',
    lambda asked=None: b'"any"',
    personalities.lmi("sse"),
    forward("http://127.0.0.1:9"),
    "tgi",
    repr,  # written in C
    max,  # written in C, and does not say what it takes
]
BAD: list[tuple[Any, str]] = [
    ("nothing", "no personality is named 'nothing'"),
    (None, "a NoneType is neither"),
    (b"tgi", "a bytes is neither"),
    ([lambda asked: b""], "a list is neither"),
    (lambda: b"", "too many positional arguments"),
    (lambda one, two: b"", "missing a required argument: 'two'"),
    (lambda asked, *, more: b"", "missing a required.* argument: 'more'"),
    (lambda *, asked: b"", "too many positional arguments"),
    (Instance, "did you mean an instance of it?"),
    (Instance.method, "missing a required argument: 'asked'"),
    (personalities.tgi, "is the function tgi, which makes a model: call it"),
    (personalities.lmi, "is the function lmi, which makes a model: call it"),
    (forward, "is the function forward, which makes a model: call it"),
]


@pytest.mark.parametrize("model", GOOD)
def test_anything_that_can_be_called_with_a_request_can_be_a_model(model: Any) -> None:
    emulator = Emulator({"my-llm": model})
    emulator.models["other"] = model
    assert emulator.models["other"] is model
    Emulator(model)


@pytest.mark.parametrize(("model", "message"), BAD)
def test_something_that_cannot_be_a_model_is_refused_when_it_is_set(model: Any, message: str) -> None:
    ways = [
        lambda: Emulator({"my-llm": model}),
        lambda: emulator.models.__setitem__("my-llm", model),
        lambda: emulator.models.update({"my-llm": model}),
        lambda: emulator.models.setdefault("new", model),
        lambda: setattr(emulator, "models", {"new": "tgi", "my-llm": model}),
    ]
    emulator = Emulator({"my-llm": "tgi"})
    for way in ways:
        with pytest.raises(ConfigurationError, match=message) as refused:
            way()
        assert (
            "endpoint 'my-llm'" in str(refused.value) or "endpoint 'new'" in str(refused.value) or "no pers" in message
        )
        assert dict(emulator.models) == {"my-llm": "tgi"}
    if model is not None:
        with pytest.raises(ConfigurationError, match=message):
            Emulator(model)


@pytest.mark.parametrize("name", ["", None, 1])
def test_a_model_is_named_by_its_endpoint(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="named by their endpoints"):
        Emulator({name: "tgi"})


def test_all_models_can_be_changed_at_once() -> None:
    with Emulator({"my-llm": lambda asked: b"1"}) as emulator:
        emulator.models = {"other": lambda asked: b"2"}
        assert ask(emulator)[0] == 400
        assert ask(emulator, path="/endpoints/other/invocations") == (200, b"2")
        assert (len(emulator.models), list(emulator.models)) == (1, ["other"])
        assert repr(emulator.models).startswith("{'other': <function")
        emulator.reset()
        assert ask(emulator) == (200, b"1")


def test_a_named_model_stays_what_it_was_set_to() -> None:
    with Emulator({"my-llm": "tgi"}) as emulator:
        ask(emulator, body=b'{"inputs": "x"}')
        assert emulator.models["my-llm"] == "tgi"


def mixed(asked: ModelRequest) -> Iterator[Any]:
    yield "one"
    yield 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (None, "NoneType"),
        ({"generated_text": "x"}, "dict"),
        (3, "int"),
        ([3], "int"),
        ([0.5, 0.25], "float"),
        ([{"generated_text": "x"}], "dict"),
        (("x", None), "NoneType"),
        (ModelReply(None), "NoneType"),  # type: ignore[arg-type]  # the mistake
        (ModelReply({"error": "x"}, status=400), "dict"),  # type: ignore[arg-type]  # the mistake
    ],
)
def test_something_that_is_not_an_answer_is_the_models_error(answer: Any, kind: str) -> None:
    with Emulator(lambda asked: answer) as emulator:
        status, body = ask(emulator)
        assert status == 424
        assert json.loads(body)["OriginalStatusCode"] == 500
        assert (
            f"a model must return bytes or str, or parts of these types, not {kind}"
            in json.loads(body)["OriginalMessage"]
        )
        status, body = ask(emulator, "openai")
        assert (status, json.loads(body)["error"]["code"]) == (500, 500)
        ask(emulator, "async")
        emulator.idle()
        ((location, stored),) = emulator.objects.items()
        assert location.endswith("-error.out")
        assert kind.encode() in stored


@pytest.mark.parametrize("answer", [bytearray(b"[1]"), memoryview(b"[1]"), [bytearray(b"["), "1", memoryview(b"]")]])
def test_every_kind_of_bytes_is_an_answer(answer: Any) -> None:
    with Emulator(lambda asked: answer) as emulator:
        assert ask(emulator) == (200, b"[1]")
        with RawClient(emulator) as client:
            assert b"[" in client.send(request("stream", headers=("Connection: close",))).read_all()


def test_half_a_character_is_not_an_answer() -> None:
    with Emulator(lambda asked: "\ud83d") as emulator:
        status, body = ask(emulator)
        assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 500)
        assert "UnicodeEncodeError" in json.loads(body)["OriginalMessage"]


def test_a_stream_ends_with_an_exception_where_a_part_is_not_an_answer() -> None:
    with Emulator(mixed) as emulator, RawClient(emulator) as client:
        answer = client.send(request("stream", headers=("Connection: close",))).read_all()
    assert b"ModelStreamError" in answer
    assert b"or parts of these types, not int" in answer


@pytest.mark.parametrize(
    ("status", "side", "code"),
    [
        (400, "client", "CLIENT_ERROR_FROM_MODEL"),
        (422, "client", "CLIENT_ERROR_FROM_MODEL"),
        (424, "client", "CLIENT_ERROR_FROM_MODEL"),
        (429, "client", "CLIENT_ERROR_FROM_MODEL"),
        (499, "client", "CLIENT_ERROR_FROM_MODEL"),
        (500, "server", "INTERNAL_FAILURE_FROM_MODEL"),
        (503, "server", "INTERNAL_FAILURE_FROM_MODEL"),
    ],
)
@pytest.mark.parametrize("kind", ["invoke", "stream"])
def test_a_containers_error_is_worded_as_the_service_words_it(kind: str, status: int, side: str, code: str) -> None:
    with Emulator(lambda asked: ModelReply(['{"error": ', '"no"}'], status=status)) as emulator:
        answered, body = ask(emulator, kind)
    error = json.loads(body)
    assert answered == 424
    assert error["Message"].startswith(
        f'Received {side} error ({status}) from primary with message "{{"error": "no"}}". See https://us-east-1.console'
    )
    assert (error["OriginalStatusCode"], error["OriginalMessage"]) == (status, '{"error": "no"}')
    assert error["ErrorCode"] == code


def test_models_are_set_from_any_thread_while_it_serves() -> None:
    with Emulator({"my-llm": lambda asked: b"[]"}) as emulator:

        def change() -> None:
            for number in range(200):
                emulator.models[str(number)] = "tgi"
                del emulator.models[str(number)]

        changing = threading.Thread(target=change)
        changing.start()
        assert {ask(emulator) for _ in range(50)} == {(200, b"[]")}
        changing.join()
