"""The OpenAI path of the emulator: its paths, its methods, its errors, and what each container serves there."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import openai
import pytest
from emulator_client import RawClient, container, request

from smendpoint.emulator import Emulator, ModelReply, ModelRequest, forward
from smendpoint.emulator.personalities import PERSONALITIES

TEXT = {"/v1/chat/completions", "/v1/completions"}
SERVED: dict[str, set[str]] = {
    **{name: TEXT for name in PERSONALITIES if name in ("stand_in", "tgi") or name.startswith("lmi")},
    "vllm": {*TEXT, "/v1/embeddings"},
    "tei": {"/v1/embeddings"},
}
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "It rains. Question: Does it rain?"}]},
    "/v1/completions": {"prompt": "It rains. Question: Does it rain?"},
    "/v1/embeddings": {"input": ["one", "two"]},
}


def ask(emulator: Emulator, path: str, body: Any = None, *, method: str = "POST") -> tuple[str, int, Any]:
    """Head, status and JSON of an answer."""
    data = b"" if body is None else json.dumps(body).encode()
    with RawClient(emulator) as client:
        head, answer = client.exchange(request(body=data, method=method, path=f"/endpoints/my-llm/openai{path}"))
    return head.decode(), int(head.split()[1]), json.loads(answer)


def refused(answer: tuple[str, int, Any]) -> tuple[int, str]:
    """Status and code of a refusal, which must have OpenAI's shape."""
    head, status, body = answer
    assert "\r\nContent-Type: application/json\r\n" in head
    error = body["error"]
    assert set(body) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return status, error["code"]


@pytest.mark.parametrize("path", [*BODIES, "/v1/rerank", "/v1/chat", "/v1/chat/completions/", "/v1/modelsx"])
@pytest.mark.parametrize("name", PERSONALITIES)
def test_a_container_answers_on_the_paths_that_it_serves_and_no_others(name: str, path: str) -> None:
    served = path in SERVED.get(name, ())
    with Emulator({"my-llm": name}) as emulator:
        if served:
            _, status, body = ask(emulator, path, BODIES[path])
            assert status == 200
            assert body["object"] in ("chat.completion", "text_completion", "list")
            assert refused(ask(emulator, path, {})) in ((400, 400), (422, 422))
            assert refused(ask(emulator, path)) == (400, 400)
            head, status, body = ask(emulator, path, method="GET")
            assert "\r\nAllow: POST\r\n" in head
            assert refused((head, status, body)) == (405, "method_not_supported")
        else:
            assert refused(ask(emulator, path, {})) == (404, "unknown_url")
            assert refused(ask(emulator, path, method="GET")) == (404, "unknown_url")


@pytest.mark.parametrize("name", PERSONALITIES)
def test_the_models_are_listed_where_there_is_a_path_for_them(name: str) -> None:
    model = {"id": "my-llm", "object": "model", "created": 1, "owned_by": "smendpoint"}
    with Emulator({"my-llm": name}) as emulator:
        listed = ask(emulator, "/v1/models", method="GET")
        if name not in SERVED:
            assert refused(listed) == (404, "unknown_url")
            return
        assert listed[1:] == (200, {"object": "list", "data": [model]})
        assert ask(emulator, "/v1/models/my-llm", method="GET")[1:] == (200, model)
        assert refused(ask(emulator, "/v1/models/my%20llm", method="GET")) == (404, "model_not_found")
        head, *rest = ask(emulator, "/v1/models", {})
        assert "\r\nAllow: GET, HEAD\r\n" in head
        assert refused((head, *rest)) == (405, "method_not_supported")


def test_an_inference_component_is_listed_by_its_name() -> None:
    path = "/endpoints/my-llm/inference-components/part/openai/v1/models"
    with Emulator("vllm") as emulator, RawClient(emulator) as client:
        _, body = client.exchange(request(method="GET", body=b"", path=path))
    assert json.loads(body)["data"][0]["id"] == "part"


def test_a_function_has_the_usual_paths() -> None:
    seen: list[tuple[str, str]] = []

    def model(asked: ModelRequest) -> bytes:
        seen.append((asked.method, asked.path))
        return b"{}"

    with Emulator({"my-llm": model}) as emulator:
        for path in BODIES:
            assert ask(emulator, path, {})[1:] == (200, {})
        assert ask(emulator, "/v1/models", method="GET")[1] == 200
        assert refused(ask(emulator, "/v1/responses", {})) == (404, "unknown_url")
        assert refused(ask(emulator, "/v1/embeddings", method="DELETE")) == (405, "method_not_supported")
    assert seen == [("POST", path) for path in BODIES]


def test_a_function_can_say_which_paths_it_has() -> None:
    def model(asked: ModelRequest) -> str:
        return json.dumps(f"{asked.method} {asked.path}")

    with Emulator({"my-llm": model}) as emulator:
        model.openai_paths = ["/v1/responses"]  # type: ignore[attr-defined]  # what a model may have
        assert ask(emulator, "/v1/responses", {})[1:] == (200, "POST /v1/responses")
        assert refused(ask(emulator, "/v1/embeddings", {})) == (404, "unknown_url")
        model.openai_paths = None  # type: ignore[attr-defined]  # what a model may have
        assert ask(emulator, "/v1/models", method="GET")[1:] == (200, "GET /v1/models")


def test_a_function_that_raises_is_an_error_in_openais_shape() -> None:
    def model(asked: ModelRequest) -> bytes:
        raise ValueError("broken")

    with Emulator({"my-llm": model}) as emulator:
        answer = ask(emulator, "/v1/completions", {})
    assert refused(answer) == (500, 500)
    assert answer[2]["error"]["message"] == "ValueError: broken"


def test_a_containers_own_error_is_handed_on_as_it_is() -> None:
    with Emulator(lambda asked: ModelReply('{"detail": "no"}', status=418)) as emulator:
        assert ask(emulator, "/v1/completions", {})[1:] == (418, {"detail": "no"})


def test_a_container_knows_its_own_paths_and_methods() -> None:
    with container() as url, Emulator(forward(url)) as emulator:
        for method, path, body in (("GET", "/v1/models", None), ("POST", "/v1/a", {}), ("DELETE", "/v1/b/c", None)):
            _, status, answer = ask(emulator, path, body, method=method)
            assert (status, answer["asked"], answer["body"]) == (200, f"{method} {path}", "" if body is None else "{}")
        assert ask(emulator, "/v1/nothing", {})[1] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": []}, 400),
        ({"input": [1, 2]}, 422),
        ({"input": {"text": "x"}}, 422),
        ({"input": "x", "dimensions": "many"}, 422),
        ({"input": "x", "dimensions": 0}, 422),
        ({"input": "x", "dimensions": True}, 422),
        ({"input": "x", "encoding_format": "int8"}, 422),
    ],
)
def test_embeddings_that_cannot_be_made_are_refused(body: Any, status: int) -> None:
    with Emulator({"my-llm": "tei", "vllm": "vllm"}) as emulator:
        assert refused(ask(emulator, "/v1/embeddings", body)) == (status, status)


def test_the_openai_sdk_gets_embeddings_models_completions_and_its_own_errors() -> None:
    with Emulator({"vectors": "tei", "texts": "tgi"}) as emulator:
        with openai.OpenAI(
            base_url=f"{emulator.url}/endpoints/vectors/openai/v1", api_key="any", max_retries=0
        ) as client:
            made = client.embeddings.create(model="", input=["a cat", "a dog"], encoding_format="float")
            packed = client.embeddings.create(model="", input="a cat", dimensions=4)  # the SDK asks for base64
            assert [len(one.embedding) for one in made.data] == [8, 8]
            assert len(packed.data[0].embedding) == 4
            assert [one.id for one in client.models.list()] == ["vectors"]
            assert client.models.retrieve("vectors").id == "vectors"
            with pytest.raises(openai.NotFoundError, match="does not serve POST /v1/completions"):
                client.completions.create(model="", prompt="x")
        with openai.OpenAI(
            base_url=f"{emulator.url}/endpoints/texts/openai/v1", api_key="any", max_retries=0
        ) as client:
            assert client.completions.create(model="", prompt="It rains. Question: Does it rain?").choices[0].text
            with pytest.raises(openai.UnprocessableEntityError, match="prompt"):
                client.completions.create(model="", prompt=[1, 2])
        emulator.disconnected()


@pytest.mark.parametrize("name", ["stand_in", "tgi", "vllm", "lmi", "lmi_sse", "lmi_async", "lmi_3p", "lmi_outputs"])
def test_streams_of_the_openai_path_are_events_with_an_end(name: str) -> None:
    async def both(url: str) -> tuple[str, str | None, str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            text, reason = "", None
            messages: Any = BODIES["/v1/chat/completions"]["messages"]
            async for chunk in await client.chat.completions.create(model="", messages=messages, stream=True):
                text += chunk.choices[0].delta.content or ""
                reason = chunk.choices[0].finish_reason or reason
            prompt: Any = BODIES["/v1/completions"]["prompt"]
            completed = await client.completions.create(model="", prompt=prompt, stream=True)
            return text, reason, "".join([chunk.choices[0].text async for chunk in completed])

    with Emulator({"my-llm": name}) as emulator:
        url = f"{emulator.url}/endpoints/my-llm/openai/v1"
        assert asyncio.run(both(url)) == ("It rains.", "stop", "It rains.")
        with RawClient(emulator) as client:
            body = json.dumps({**BODIES["/v1/chat/completions"], "stream": True}).encode()
            raw = client.send(request("openai", body, headers=("Connection: close",))).read_all()
    assert b"Content-Type: text/event-stream" in raw


def test_openais_own_paths_take_the_endpoint_from_the_bodys_model() -> None:
    with Emulator({"one": "vllm", "two": "tei"}) as emulator:
        with openai.OpenAI(base_url=f"{emulator.url}/v1", api_key="any", max_retries=0) as caller:
            assert [model.id for model in caller.models.list()] == ["one", "two"]
            assert caller.models.retrieve("two").id == "two"
            said = caller.chat.completions.create(model="one", messages=[{"role": "user", "content": "It rains."}])
            assert said.choices[0].message.content
            assert caller.embeddings.create(model="two", input="a", encoding_format="float").data
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                caller.chat.completions.create(model="three", messages=[{"role": "user", "content": "It rains."}])
            with pytest.raises(openai.BadRequestError, match="name a model"):
                caller.chat.completions.create(model="", messages=[{"role": "user", "content": "It rains."}])
            with pytest.raises(openai.NotFoundError, match="no model 'three' here"):
                caller.models.retrieve("three")
        assert [request.endpoint_name for request in emulator.requests if request.method == "POST"][:2] == [
            "one",
            "two",
        ]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 1}', b"[" * 100_000])
def test_a_body_that_names_no_model_is_refused_on_openais_own_paths(body: bytes) -> None:
    with Emulator({"one": "vllm"}) as emulator:
        connection = http.client.HTTPConnection("127.0.0.1", int(emulator.url.rpartition(":")[2]), timeout=20)
        connection.request("POST", "/v1/chat/completions", body)
        response = connection.getresponse()
        assert response.status == 400
        assert json.loads(response.read())["error"]["type"] == "invalid_request_error"
        connection.close()
