"""A call's keywords: parameters reach the model, options of the call have an effect, and the rest is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from inside import transport_of
from members import require_member
from servers import bare_environment, deaf_port  # noqa: F401
from test_session import Remembering, TwinSession
from twins import NAME, PATIENCE, Twin, TwinEndpoint, client_twin, direct_twin, twin  # noqa: F401

from smendpoint import (
    AsyncEmbeddings,
    Embeddings,
    EmbeddingsHandler,
    Endpoint,
    StuffDocumentsQA,
    TextHandler,
    Timeout,
    errors,
)
from smendpoint.emulator import Emulator, ModelRequest
from smendpoint.langchain import SagemakerEndpoint

pytestmark = pytest.mark.usefixtures("bare_environment")

VALUE = "a value that is nobody's business"
SHORT = 0.2  # seconds: a limit that a test reaches
OWN = {"timeout", "endpoint_kwargs"}  # options that a call has, too
OPTIONS = sorted(set(inspect.signature(Endpoint).parameters) - OWN)
OF_QA = sorted(set(inspect.signature(StuffDocumentsQA).parameters) - {"endpoint"})

# Every way to make a call, with its number of requests.
Call = Callable[[TwinEndpoint, dict[str, Any]], Any]
WAYS: dict[str, Call] = {
    "invoke": lambda made, given: made.invoke("x", **given),
    "call": lambda made, given: made.twin.run(made.endpoint("x", **given)),
    "send": lambda made, given: made.send("x", **given),
    "stream": lambda made, given: made.collect("x", **given),
    "map": lambda made, given: list(made.map(["x"], max_concurrency=1, **given)),
    "answer": lambda made, given: made.twin.run(StuffDocumentsQA(made.endpoint).answer("x", ["y"], **given)),
}


def tokens(request: ModelRequest) -> Any:
    """A model whose answers can be streamed."""
    return '{"generated_text": "fine"}'


def sent(emulator: Emulator) -> list[dict[str, Any]]:
    """The parameters of each request."""
    return [json.loads(request.body)["parameters"] for request in emulator.requests]


# names


@pytest.mark.parametrize("way", WAYS)
def test_an_option_of_the_constructor_is_refused_in_a_call_before_a_byte_leaves(
    way: str,
    twin: Twin,  # noqa: F811
) -> None:
    with Emulator(tokens) as emulator, twin.endpoint(emulator.url) as endpoint:
        for name in OPTIONS:
            with pytest.raises(errors.ConfigurationError, match=f"^{name} cannot be given to a call, only") as caught:
                WAYS[way](endpoint, {name: VALUE})
            assert f"Endpoint(..., {name}=...)" in str(caught.value)
            assert f"parameters={{{name!r}: ...}}" in str(caught.value)
            assert VALUE not in str(caught.value)
            assert caught.value.endpoint_name == NAME
        with pytest.raises(errors.ConfigurationError, match=r"^region_name, model_kwargs cannot"):
            WAYS[way](endpoint, {"region_name": VALUE, "top_k": 1, "model_kwargs": {}})
        assert emulator.total_connections == 0


def test_it_is_refused_at_once_and_once_for_all_inputs_of_a_map(twin: Twin) -> None:  # noqa: F811
    def inputs() -> Iterable[str]:
        raise AssertionError("an input was read")
        yield ""

    wrong: list[dict[str, Any]] = [{"region_name": VALUE}, {"timeout": "soon"}, {"timeout": 0}, {"stop": 5}]
    with twin.endpoint("http://127.0.0.1:1") as endpoint:
        for given in wrong:
            with pytest.raises(errors.ConfigurationError):
                endpoint.endpoint.map(inputs(), max_concurrency=1, return_exceptions=True, **given)


@pytest.mark.parametrize("given", [{}, {"input_location": "s3://bucket/key"}])
def test_submit_refuses_them_too(given: dict[str, Any], direct_twin: Twin) -> None:  # noqa: F811
    value = () if given else ("x",)
    with Emulator(tokens) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        for name in [*OPTIONS, "timeout"]:
            with pytest.raises(errors.ConfigurationError, match=f"^{name} cannot be given to a call"):
                direct_twin.run(endpoint.endpoint.submit(*value, **given, **{name: VALUE}))
        assert emulator.total_connections == 0


@pytest.mark.parametrize("way", ["invoke", "send", "collect"])
def test_a_session_refuses_them_too(way: str, twin: Twin) -> None:  # noqa: F811
    require_member("InvokeEndpoint", "SessionId")
    if way == "collect":
        require_member("InvokeEndpointWithResponseStream", "SessionId")
    with (
        Emulator(Remembering()) as emulator,
        twin.endpoint(emulator.url, content_handler=TextHandler()) as endpoint,
        TwinSession(endpoint) as session,
    ):
        before = len(emulator.requests)
        for name in OPTIONS:
            with pytest.raises(errors.ConfigurationError, match=f"^{name} cannot be given to a call"):
                getattr(session, way)("x", **{name: VALUE})
        assert len(emulator.requests) == before
        getattr(session, way)("x", timeout=PATIENCE)
        with pytest.raises(errors.HandlerError, match="no place for model parameters: client"):
            getattr(session, way)("x", parameters={"client": VALUE})


@pytest.mark.parametrize("way", WAYS)
def test_parameters_sends_the_model_whatever_it_holds(way: str, twin: Twin) -> None:  # noqa: F811
    free = {name: f"{name} of the model" for name in [*OPTIONS, *OWN, "parameters", "input", "ordered"]}
    with (
        Emulator(tokens) as emulator,
        twin.endpoint(emulator.url, model_kwargs={"timeout": 1, "top_k": 2, "parameters": 3}) as endpoint,
    ):
        WAYS[way](endpoint, {})
        WAYS[way](endpoint, {"parameters": free, "top_k": 3, "stop": "END"})
        WAYS[way](endpoint, {"parameters": None})
        WAYS[way](endpoint, {"parameters": {"stop": ["the", "model's"]}, "stop": ["ours"]})
        ours = {"timeout": 1, "top_k": 2, "parameters": 3}
        assert sent(emulator) == [
            ours,
            {**free, "top_k": 3, "stop": ["END"]},
            ours,
            {**ours, "stop": ["the", "model's"]},
        ]


def test_submit_sends_them_too(direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(tokens, async_output="s3://bucket/out") as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        direct_twin.run(endpoint.endpoint.submit("x", parameters={"timeout": 5, "input_location": "y"}))
        assert sent(emulator) == [{"timeout": 5, "input_location": "y"}]


@pytest.mark.parametrize("way", WAYS)
def test_parameters_that_do_not_fit_are_refused(way: str, twin: Twin) -> None:  # noqa: F811
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"parameters": 5}, "parameters must be a mapping with names as keys, not int"),
        ({"parameters": {5: 6}}, "parameters must be a mapping with names as keys"),
        ({"parameters": {"top_k": VALUE}, "top_k": 1}, "^top_k is given twice: as a keyword and in parameters="),
    ]
    with Emulator(tokens) as emulator, twin.endpoint(emulator.url) as endpoint:
        for given, message in wrong:
            with pytest.raises(errors.ConfigurationError, match=message) as caught:
                WAYS[way](endpoint, given)
            assert VALUE not in str(caught.value)
        assert emulator.total_connections == 0


@pytest.mark.parametrize("method", ["answer", "stream"])
def test_a_question_refuses_the_options_of_its_endpoint(method: str) -> None:
    class Other:
        """An endpoint that is not ours: it may take any keyword."""

        def invoke(self, prompt: str, /, **given: Any) -> Any:
            return given

        stream = invoke

    ask: Any = getattr(StuffDocumentsQA(Other(), prompt="{context}{question}"), method)
    for name in OF_QA:
        with pytest.raises(errors.ConfigurationError, match=rf"^{name} cannot be given .*StuffDocumentsQA\(.*{name}="):
            ask("q", ["d"], **{name: VALUE})
    assert ask("q", ["d"], timeout=5, config=6) == {"timeout": 5, "config": 6}


def test_langchains_names_pass_a_calls_keywords_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
    with Emulator(tokens) as emulator:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", emulator.url)
        model = SagemakerEndpoint(endpoint_name=NAME, region_name="us-east-1")
        for call in (model.invoke, model):
            with pytest.raises(errors.ConfigurationError, match=r"^region_name cannot be given to a call"):
                call("x", region_name=VALUE)
            with pytest.raises(errors.ConfigurationError, match=r"SagemakerEndpoint\(\.\.\., streaming=\.\.\.\)"):
                call("x", streaming=True)
            call("x", timeout=PATIENCE, parameters={"region_name": "of the model"}, top_k=1)
        model.close()
        assert sent(emulator) == [{"region_name": "of the model", "top_k": 1}] * 2


def test_embeddings_pass_a_calls_keywords_on(twin: Twin) -> None:  # noqa: F811
    make: Any = AsyncEmbeddings if twin.asynchronous else Embeddings
    given = {"timeout": PATIENCE, "parameters": {"timeout": 5}, "truncate": True}
    with (
        Emulator(lambda request: b"[[1.0]]") as emulator,
        twin.endpoint(emulator.url, content_handler=EmbeddingsHandler()) as endpoint,
    ):
        embeddings = make(endpoint.endpoint, batch_size=1, document_kwargs=given, query_kwargs=given)
        twin.run(embeddings.embed_query("x"))
        twin.run(embeddings.embed_documents(["x", "y"]))
        bodies = [json.loads(request.body) for request in emulator.requests]
        assert [(body["timeout"], body["truncate"]) for body in bodies] == [(5, True)] * 3


# timeouts


def heard(endpoint: TwinEndpoint) -> list[tuple[Timeout, bool]]:
    """The `Timeout` of each attempt from now on, and whether there is a deadline."""
    transport = transport_of(endpoint.endpoint)
    perform, seen = transport.perform, []

    def watched(step: Any, request: Any, timeout: Timeout, *more: Any) -> Any:
        seen.append((timeout, step.deadline is not None))
        return perform(step, request, timeout, *more)

    transport.perform = watched
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_a_timeout_is_that_of_one_call(way: str, twin: Twin) -> None:  # noqa: F811
    own, whole = Timeout(PATIENCE, PATIENCE + 1, PATIENCE + 2), Timeout(PATIENCE + 3, PATIENCE + 4)
    with Emulator(tokens) as emulator, twin.endpoint(emulator.url, timeout=own) as endpoint:
        seen = heard(endpoint)
        for given in ({}, {"timeout": whole}, {"timeout": None}, {"timeout": 30}, {}):
            WAYS[way](endpoint, given)
        number = Timeout(30, 30, own.total)  # a number leaves the total as it is
        assert seen == [(own, True), (whole, False), (own, True), (number, True), (own, True)]
        assert sent(emulator) == [{}] * 5


@pytest.mark.parametrize("way", WAYS)
def test_a_timeout_that_does_not_fit_is_refused(way: str, twin: Twin) -> None:  # noqa: F811
    wrong: list[Any] = [0, -1, "5", True, float("nan"), float("inf"), (1, 2), {"read": 5}]
    with twin.endpoint("http://127.0.0.1:1") as endpoint:
        for timeout in wrong:
            with pytest.raises(errors.ConfigurationError, match=r"^timeout"):
                WAYS[way](endpoint, {"timeout": timeout})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timeout", [SHORT, Timeout(PATIENCE, SHORT)])
def test_it_bounds_a_calls_silence(timeout: Any, way: str, direct_twin: Twin) -> None:  # noqa: F811
    with Emulator(tokens) as emulator, direct_twin.endpoint(emulator.url) as endpoint:
        emulator.inject("stall_before_headers")
        with pytest.raises(errors.ReadTimeoutError, match=f"nothing arrived for {SHORT:g} s"):
            WAYS[way](endpoint, {"timeout": timeout})


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_it_bounds_the_silence_in_an_answer_in_both_lanes(way: str, twin: Twin) -> None:  # noqa: F811
    with Emulator(tokens) as emulator, twin.endpoint(emulator.url) as endpoint:
        emulator.inject("stall_mid_stream")
        with pytest.raises(errors.ReadTimeoutError, match=f"nothing arrived for {SHORT:g} s"):
            WAYS[way](endpoint, {"timeout": SHORT})


@pytest.mark.parametrize("way", WAYS)
def test_it_bounds_a_call_in_all(way: str, twin: Twin) -> None:  # noqa: F811
    if twin.id == "sync-client" and way != "stream":
        pytest.skip("a blocking client cannot be stopped before its answer begins")
    with Emulator(tokens) as emulator, twin.endpoint(emulator.url) as endpoint:
        emulator.inject("stall_mid_stream" if way == "stream" else "stall_before_headers")
        with pytest.raises(errors.DeadlineExceededError, match=f"total of {SHORT:g} s"):
            WAYS[way](endpoint, {"timeout": Timeout(PATIENCE, PATIENCE, SHORT)})


@pytest.mark.parametrize("way", WAYS)
def test_it_bounds_connecting(way: str, direct_twin: Twin) -> None:  # noqa: F811
    from smendpoint import RetryPolicy

    with (
        deaf_port() as port,
        direct_twin.endpoint(f"http://127.0.0.1:{port}", retry=RetryPolicy(max_attempts=1)) as endpoint,
        pytest.raises(errors.ConnectError, match=f"within {SHORT:g} s"),
    ):
        WAYS[way](endpoint, {"timeout": Timeout(SHORT, PATIENCE)})


def test_stop_sequences_from_an_iterator_hold_for_every_input_of_a_map(twin: Twin) -> None:  # noqa: F811
    with (
        Emulator(lambda request: '{"generated_text": "one. two"}') as emulator,
        twin.endpoint(emulator.url) as endpoint,
    ):
        answers = list(endpoint.map(["x", "y", "z"], max_concurrency=2, stop=iter(["."])))
    assert answers == ["one"] * 3
