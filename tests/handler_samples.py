"""The answers of the containers, as their sources and users show them, with the outputs of the handlers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from smendpoint.handlers import (
    AutoHandler,
    ChatHandler,
    ClassificationHandler,
    EmbeddingsHandler,
    JSONHandler,
    JumpStartChatHandler,
    JumpStartTextHandler,
    OpenAICompletionsHandler,
    RerankHandler,
    SimilaritySearchHandler,
    SparseEmbeddingsHandler,
    TabularHandler,
    TabularRowsHandler,
    TextGenerationHandler,
)
from smendpoint.handlers.ranking import Classification, Neighbour, RerankResult


class Whole(NamedTuple):
    """A whole answer and a handler's output for it."""

    name: str
    handler: Any
    body: bytes
    output: Any


class Streamed(NamedTuple):
    """A stream and the text that a handler's chunks make."""

    name: str
    handler: Any
    body: bytes
    text: str
    finish_reason: str | None = None
    usage: tuple[int | None, int | None, int | None] | None = None


class Failed(NamedTuple):
    """An answer or a stream that reports an error."""

    name: str
    body: bytes
    message: str = "the model reported an error without a message"
    code: int | str | None = None
    error_type: str | None = None


TGI_WHOLE = (
    b'[{"generated_text":"Life is good","details":{"finish_reason":"length","generated_tokens":64,"seed":null,'
    b'"prefill":[],"tokens":[]}}]'
)
LMI_WHOLE = (
    b'{"generated_text":"Deep learning","details":{"finish_reason":"length","generated_tokens":16,"inputs":"What is"}}'
)
LMI_3P = (
    b'{"body":{"generation":"Deep learning","prompt_token_count":4,"generation_token_count":12,"stop_reason":"length"},'
    b'"metering":{"inputTokenCount":4},"content_type":"application/json"}'
)
CHAT_WHOLE = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)
COMPLETION_WHOLE = (
    b'{"choices":[{"index":0,"text":"Hello","finish_reason":"length"}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)
LLAMA_CHAT = b'[{"generation":{"role":"assistant","content":"Hello"}}]'
PIPELINE_CHAT = (
    b'[{"generated_text":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Earlier"},'
    b'{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}]'
)
TRITON = b'{"model_name":"ensemble","model_version":"1","text_output":" Machine learning"}'

TEXT_WHOLE = [
    Whole("tgi", TextGenerationHandler(), TGI_WHOLE, "Life is good"),
    Whole("lmi", TextGenerationHandler(), LMI_WHOLE, "Deep learning"),
    Whole("lmi 3p", TextGenerationHandler(), LMI_3P, "Deep learning"),
    Whole("hf toolkit", TextGenerationHandler(), b'[{"generated_text":"Hello"}]', "Hello"),
    Whole("openai completion", OpenAICompletionsHandler(), COMPLETION_WHOLE, "Hello"),
    Whole("llama 2", JumpStartTextHandler("llama-2"), b'[{"generation":"Hello"}]', "Hello"),
    Whole("llama 2, default handler", TextGenerationHandler(), b'[{"generation":"Hello"}]', "Hello"),
    Whole("llama 3", JumpStartTextHandler("llama-3"), b'{"generated_text":"Hello"}', "Hello"),
    Whole("flan-t5", JumpStartTextHandler("flan-t5"), b'{"generated_texts":["Hello"]}', "Hello"),
    Whole("gpt-j", JumpStartTextHandler("gpt-j"), b'{"generated_texts":["Hello"]}', "Hello"),
    Whole("bloomz", JumpStartTextHandler("bloomz"), b'[[{"generated_text":"Hello"}]]', "Hello"),
    Whole("dynamic batching", TextGenerationHandler(), b'{"outputs": ["This"]}', "This"),
    Whole("summary", TextGenerationHandler(), b'[{"summary_text":"Short"}]', "Short"),
    Whole("translation", TextGenerationHandler(), b'{"translation_text":"Bonjour"}', "Bonjour"),
    Whole("hf chat", TextGenerationHandler(), PIPELINE_CHAT, "Hello"),
    Whole("hf chat in a list of lists", JumpStartTextHandler("llama-3"), b"[" + PIPELINE_CHAT + b"]", "Hello"),
    Whole("triton", TextGenerationHandler(), TRITON, " Machine learning"),
    Whole("triton, beams", TextGenerationHandler(), b'{"model_name":"m","text_output":["a","b"]}', "a"),
]

AUTO_WHOLE = [
    *(Whole(f"auto: {sample.name}", AutoHandler(), sample.body, sample.output) for sample in TEXT_WHOLE),
    Whole("auto: chat", AutoHandler(), CHAT_WHOLE, "Hello"),
    Whole("auto: llama chat", AutoHandler(), LLAMA_CHAT, "Hello"),
    Whole("auto: a string", AutoHandler(), b'"Hello"', "Hello"),
]

K_MEANS = (
    b'{"predictions":[{"closest_cluster":5.0,"distance_to_cluster":36.5},'
    b'{"closest_cluster":4.0,"distance_to_cluster":90.25}]}'
)
LINEAR_LEARNER = b'{"predictions":[{"score":[0.1,0.7,0.2],"predicted_label":1}]}'
ZERO_SHOT = b'{"sequence":"I have a problem","labels":["urgent","phone"],"scores":[0.25,0.75]}'
ZERO_SHOT_CLASSES = [Classification("phone", 0.75), Classification("urgent", 0.25)]
COHERE_TYPES = (
    b'{"id":"1","embeddings":{"float":[[0.5,1]],"int8":[[-128,127]],"uint8":[[0,255]],"binary":[[-1]],'
    b'"ubinary":[[255]]},"texts":["a"],"response_type":"embeddings_by_type"}'
)

OTHER_WHOLE = [
    Whole("tei", EmbeddingsHandler(), b"[[0.5,1],[0.25,-2]]", [[0.5, 1.0], [0.25, -2.0]]),
    Whole("lmi one", EmbeddingsHandler("lmi"), b"[0.5,1.5]", [[0.5, 1.5]]),
    Whole("hf cls", EmbeddingsHandler("huggingface", pooling="cls"), b"[[[1.0,2.0],[3.0,6.0]]]", [[1.0, 2.0]]),
    Whole("hf mean", EmbeddingsHandler("huggingface", pooling="mean"), b"[[[1.0,2.0],[3.0,6.0]]]", [[2.0, 4.0]]),
    Whole("hf nested", EmbeddingsHandler("huggingface", pooling="mean"), b"[[[[1.0,2.0],[3.0,6.0]]]]", [[2.0, 4.0]]),
    Whole("hf vectors", EmbeddingsHandler("huggingface"), b'{"vectors":[[0.5],[1.5]]}', [[0.5], [1.5]]),
    Whole(
        "openai embeddings",
        EmbeddingsHandler("openai"),
        b'{"object":"list","data":[{"object":"embedding","index":1,"embedding":[2.0]},'
        b'{"object":"embedding","index":0,"embedding":[1.0]}],"model":"m","usage":{"prompt_tokens":2}}',
        [[1.0], [2.0]],
    ),
    Whole(
        "openai base64",
        EmbeddingsHandler("openai"),
        b'{"data":[{"object":"embedding","index":0,"embedding":"AAAAPwAAgL8="}]}',
        [[0.5, -1.0]],
    ),
    Whole("jumpstart text", EmbeddingsHandler("jumpstart-text"), b'{"embedding":[0.5,1.5]}', [[0.5, 1.5]]),
    Whole("jumpstart gpt-j", EmbeddingsHandler("jumpstart"), b'{"embedding":[[0.5],[1.5]]}', [[0.5], [1.5]]),
    Whole("similarity", EmbeddingsHandler("jumpstart-similarity"), b'{"embedding":[[0.5]]}', [[0.5]]),
    Whole(
        "batch transform", EmbeddingsHandler(), b'[{"id":1,"embedding":[0.5]},{"id":2,"embedding":[1]}]', [[0.5], [1.0]]
    ),
    Whole("cohere", EmbeddingsHandler("cohere"), b'{"embeddings":[[0.5]]}', [[0.5]]),
    Whole("cohere by type", EmbeddingsHandler("cohere"), b'{"embeddings":{"float":[[0.5]],"int8":[[1]]}}', [[0.5]]),
    Whole("no texts", EmbeddingsHandler(), b"[]", []),
    Whole(
        "neighbours",
        SimilaritySearchHandler(),
        b'[[{"id":"a","score":0.9,"text":"x"}],[{"corpus_id":3,"score":1}]]',
        [[Neighbour("a", 0.9, "x")], [Neighbour(3, 1.0)]],
    ),
    Whole(
        "tei rerank",
        RerankHandler(),
        b'[{"index":0,"score":0.01},{"index":1,"score":0.99,"text":"b"}]',
        [RerankResult(1, 0.99, "b"), RerankResult(0, 0.01)],
    ),
    Whole(
        "vllm rerank",
        RerankHandler("openai"),
        b'{"id":"r","results":[{"index":0,"document":{"text":"a"},"relevance_score":0.5}],"usage":{}}',
        [RerankResult(0, 0.5, "a")],
    ),
    Whole(
        "tei classify",
        ClassificationHandler(),
        b'[{"score":0.9,"label":"POSITIVE"}]',
        [Classification("POSITIVE", 0.9)],
    ),
    Whole(
        "hf classify",
        ClassificationHandler(),
        b'[[{"label":"NEGATIVE","score":0.01},{"label":"POSITIVE","score":0.99}]]',
        [Classification("POSITIVE", 0.99), Classification("NEGATIVE", 0.01)],
    ),
    Whole("sklearn json", TabularHandler("json", "json", dtype=int), b"[0, 1]", [0, 1]),
    Whole("sklearn csv", TabularHandler(), b"0\n1\n", [0.0, 1.0]),
    Whole("xgboost csv", TabularHandler(), b"0.25,0.5", [0.25, 0.5]),
    Whole("xgboost json", TabularHandler("csv", "json"), b'{"predictions":[{"score":0.43}]}', [0.43]),
    Whole("xgboost lines", TabularHandler("libsvm", "jsonlines"), b'{"score":0.43}\n{"score":0.5}\n', [0.43, 0.5]),
    Whole(
        "random cut forest", TabularHandler("csv", "json"), b'{"scores":[{"score":0.02},{"score":0.25}]}', [0.02, 0.25]
    ),
    Whole(
        "random cut forest, lines",
        TabularHandler(response="jsonlines"),
        b'{"score":0.02}\n{"score":0.25}',
        [0.02, 0.25],
    ),
    Whole("pca", TabularRowsHandler("csv", "json"), b'{"projections":[{"projection":[1.5,2]}]}', [[1.5, 2.0]]),
    Whole("pca, lines", TabularRowsHandler(response="jsonlines"), b'{"projection":[1.5,2]}\n', [[1.5, 2.0]]),
    Whole("k-means", TabularHandler("csv", "json", dtype=int), K_MEANS, [5, 4]),
    Whole("k-means, distances", TabularHandler("csv", "json", key="distance_to_cluster"), K_MEANS, [36.5, 90.25]),
    Whole(
        "linear learner", TabularHandler("csv", "json"), b'{"predictions":[{"score":0.4,"predicted_label":0}]}', [0.4]
    ),
    Whole("linear learner, classes", TabularRowsHandler("csv", "json"), LINEAR_LEARNER, [[0.1, 0.7, 0.2]]),
    Whole(
        "linear learner, labels", TabularHandler("csv", "json", dtype=int, key="predicted_label"), LINEAR_LEARNER, [1]
    ),
    Whole("tf serving", TabularHandler("instances", "json"), b'{"predictions":[[2.5],[3.0]]}', [2.5, 3.0]),
    Whole("tf serving, rows", TabularRowsHandler("instances", "json"), b'{"predictions":[[0.1,0.9]]}', [[0.1, 0.9]]),
    Whole("tf serving, a column", TabularHandler("instances", "json"), b'{"outputs":[[0.1],[0.9]]}', [0.1, 0.9]),
    Whole(
        "tf serving, the only column", TabularHandler("instances", "json"), b'{"outputs":{"y":[0.1,0.9]}}', [0.1, 0.9]
    ),
    Whole(
        "tf serving, columns",
        TabularHandler("instances", "json", key="y"),
        b'{"outputs":{"x":[[1.0,2.0]],"y":[0.1]}}',
        [0.1],
    ),
    Whole("hf zero-shot", ClassificationHandler("huggingface"), ZERO_SHOT, ZERO_SHOT_CLASSES),
    Whole("hf zero-shot in a list", ClassificationHandler("huggingface"), b"[" + ZERO_SHOT + b"]", ZERO_SHOT_CLASSES),
    Whole(
        "jumpstart classes",
        ClassificationHandler(),
        b'{"probabilities":[0.1,0.9],"labels":["a","b"],"predicted_label":"b"}',
        [Classification("b", 0.9), Classification("a", 0.1)],
    ),
    Whole(
        "blazingtext classes",
        ClassificationHandler("blazingtext"),
        b'[{"label":["__label__1","__label__2"],"prob":[0.25,0.75]}]',
        [Classification("__label__2", 0.75), Classification("__label__1", 0.25)],
    ),
    Whole(
        "vllm classify",
        ClassificationHandler("openai"),
        b'{"id":"classify-1","object":"list","created":1,"model":"m","data":[{"index":0,"label":"Default",'
        b'"probs":[0.25,0.75],"num_classes":2}],"usage":{"prompt_tokens":10,"total_tokens":10,"completion_tokens":0}}',
        [Classification("Default", 0.75)],
    ),
    Whole(
        "vllm score",
        RerankHandler("score"),
        b'{"id":"score-1","object":"list","created":1,"model":"m","data":[{"index":0,"object":"score","score":0.25},'
        b'{"index":1,"object":"score","score":0.75}],"usage":{}}',
        [RerankResult(1, 0.75), RerankResult(0, 0.25)],
    ),
    Whole(
        "vllm pooling",
        EmbeddingsHandler("openai"),
        b'{"id":"pool-1","object":"list","created":1,"model":"m","data":[{"index":1,"object":"pooling","data":[2.0]},'
        b'{"index":0,"object":"pooling","data":[1.0]}],"usage":{"prompt_tokens":2}}',
        [[1.0], [2.0]],
    ),
    Whole(
        "vllm pooling of tokens",
        EmbeddingsHandler("openai", pooling="mean"),
        b'{"data":[{"index":0,"object":"pooling","data":[[1.0,2.0],[3.0,6.0]]}]}',
        [[2.0, 4.0]],
    ),
    Whole(
        "blazingtext words",
        EmbeddingsHandler("blazingtext"),
        b'[{"word":"a","vector":[0.5,1.5]},{"word":"b","vector":[1,2]}]',
        [[0.5, 1.5], [1.0, 2.0]],
    ),
    Whole("cohere int8", EmbeddingsHandler("cohere", embedding_type="int8"), COHERE_TYPES, [[-128, 127]]),
    Whole("cohere uint8", EmbeddingsHandler("cohere", embedding_type="uint8"), COHERE_TYPES, [[0, 255]]),
    Whole("cohere binary", EmbeddingsHandler("cohere", embedding_type="binary"), COHERE_TYPES, [[-1]]),
    Whole("cohere ubinary", EmbeddingsHandler("cohere", embedding_type="ubinary"), COHERE_TYPES, [[255]]),
    Whole("cohere float of types", EmbeddingsHandler("cohere", embedding_type="float"), COHERE_TYPES, [[0.5, 1.0]]),
    Whole(
        "tei sparse",
        SparseEmbeddingsHandler(),
        b'[[{"index":1012,"value":0.5},{"index":7,"value":1}],[]]',
        [{1012: 0.5, 7: 1.0}, {}],
    ),
    Whole("speech to text", JSONHandler(content_type="audio/wav"), b'{"text":"Hello"}', {"text": "Hello"}),
    Whole(
        "image classes",
        ClassificationHandler(content_type="image/png"),
        b'[{"score":0.9,"label":"cat"},{"score":0.1,"label":"dog"}]',
        [Classification("cat", 0.9), Classification("dog", 0.1)],
    ),
    Whole("any json", JSONHandler(), b'{"a":[1,null]}', {"a": [1, None]}),
]


def _events(*items: str, space: str = " ", done: bool = False) -> bytes:
    return "".join(f"data:{space}{item}\n\n" for item in (*items, *(["[DONE]"] if done else []))).encode()


_TGI_TOKENS = (
    '{"index":1,"token":{"id":601,"text":" time","logprob":-0.10015869,"special":false},"generated_text":null,'
    '"details":null}',
    '{"index":2,"token":{"id":7,"text":" flies ☃","logprob":-0.5,"special":false},"generated_text":null,'
    '"details":null}',
    '{"index":3,"token":{"id":2,"text":"</s>","logprob":-0.01,"special":true},"generated_text":" time flies ☃",'
    '"details":{"finish_reason":"eos_token","generated_tokens":3,"seed":null,"input_length":4}}',
)
_LMI_TOKENS = (
    '{"token": {"id": 304, "text": "Deep ", "log_prob": -0.052432529628276825}}',
    '{"token": {"id": 11157, "text": "learning", "log_prob": -0.18}, "generated_text": "Deep learning", '
    '"details": {"finish_reason": "length", "generated_tokens": 2, "inputs": "What is?"}}',
)
_LMI_V15 = (
    '{"index": 0, "token": {"id": 304, "text": "Deep", "logprob": -0.05}, "generated_text": null, "details": null}',
    '{"index": 1, "token": {"id": null, "text": " end", "logprob": null}, "generated_text": "Deep end", '
    '"details": {"finish_reason": "stop", "generated_tokens": 2}}',
)
CHAT_CHUNKS = (
    '{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    '"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{"content":null},"finish_reason":null}]}',
    '{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}',
    '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    '{"id":"1","object":"chat.completion.chunk","choices":[],'
    '"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}',
)
_COMPLETION_CHUNKS = (
    '{"choices":[{"index":0,"text":" a","finish_reason":null}]}',
    '{"choices":[{"index":0,"text":" b","finish_reason":"length"}],"usage":null}',
    '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
)

TEXT_STREAMS = [
    Streamed(
        "tgi",
        TextGenerationHandler(),
        b":\n\n" + _events(*_TGI_TOKENS, space=""),
        " time flies ☃",
        "eos_token",
        (4, 3, 7),
    ),
    Streamed(
        "lmi lines",
        TextGenerationHandler(),
        "\n".join(_LMI_TOKENS).encode(),
        "Deep learning",
        "length",
        (None, 2, None),
    ),
    Streamed("lmi sse", TextGenerationHandler(), _events(*_LMI_TOKENS), "Deep learning", "length", (None, 2, None)),
    Streamed(
        "lmi outputs",
        TextGenerationHandler(),
        b'{"outputs": ["This"]}\n{"outputs": [" opportunity"]}\n',
        "This opportunity",
    ),
    Streamed(
        "lmi v15", TextGenerationHandler(), "\n".join(_LMI_V15).encode() + b"\n", "Deep end", "stop", (None, 2, None)
    ),
    Streamed(
        "triton",
        TextGenerationHandler(),
        _events(
            '{"model_name":"m","model_version":"1","text_output":" Machine"}',
            '{"model_name":"m","model_version":"1","text_output":""}',
            '{"model_name":"m","model_version":"1","text_output":" learning ☃"}',
        ),
        " Machine learning ☃",
    ),
    Streamed(
        "a container that does not stream",
        TextGenerationHandler(),
        TGI_WHOLE,
        "Life is good",
        "length",
        (None, 64, None),
    ),
    Streamed(
        "completions",
        OpenAICompletionsHandler(),
        _events(*_COMPLETION_CHUNKS, done=True) + b"data: ignored\n\n",
        " a b",
        "length",
        (1, 2, 3),
    ),
    Streamed(
        "lmi completions",
        OpenAICompletionsHandler(),
        "".join(f"{chunk}\n" for chunk in _COMPLETION_CHUNKS).encode() + b"\n\n",
        " a b",
        "length",
        (1, 2, 3),
    ),
]
CHAT_STREAMS = [
    Streamed("chat", ChatHandler(), _events(*CHAT_CHUNKS, done=True), "Hello", "stop", (5, 1, 6)),
    Streamed("chat without done", ChatHandler(), _events(*CHAT_CHUNKS, space="")[:-1], "Hello", "stop", (5, 1, 6)),
    Streamed(
        "lmi chat lines",
        ChatHandler(),
        "".join(f"{chunk}\n" for chunk in CHAT_CHUNKS[:-1]).encode() + b"\n\n",
        "Hello",
        "stop",
    ),
    Streamed("llama chat, whole", JumpStartChatHandler(), LLAMA_CHAT, "Hello"),
    Streamed("hf chat, whole", ChatHandler(), PIPELINE_CHAT, "Hello"),
    Streamed("chat, whole", ChatHandler(), CHAT_WHOLE, "Hello", "stop", (5, 1, 6)),
]
AUTO_STREAMS = [
    *(sample._replace(name=f"auto: {sample.name}", handler=AutoHandler()) for sample in (*TEXT_STREAMS, *CHAT_STREAMS)),
    Streamed("auto: plain text", AutoHandler(), "plain ☃ text\n".encode(), "plain ☃ text\n"),
]

# Each of them as a whole answer, as an event, as a line.
ERRORS = [
    Failed(
        "tgi",
        b'{"error":"Request failed during generation","error_type":"generation"}',
        "Request failed during generation (generation)",
        error_type="generation",
    ),
    Failed(
        "tgi validation", b'{"error":"Input","error_type":"validation"}', "Input (validation)", error_type="validation"
    ),
    Failed("tgi chat", b'{"error":{"message":"bad","http_status_code":422}}', "bad (422)", code=422),
    Failed("lmi", b'{"error":"bad","code":424}', "bad (424)", code=424),
    Failed(
        "lmi handler",
        b'{"code":424,"message":"invoke handler failure","error":"bad"}',
        "invoke handler failure: bad (424)",
        code=424,
    ),
    Failed(
        "lmi text",
        b'{"generated_text":null,"error":"bad","code":400,"details":{"finish_reason":"error"}}',
        "bad (400)",
        code=400,
    ),
    Failed(
        "lmi token",
        b'{"token":{"id":-1,"text":"","log_prob":-1,"special_token":true},"generated_text":"",'
        b'"details":{"finish_reason":"error","generated_tokens":null,"inputs":null}}',
    ),
    Failed(
        "lmi token with its message",
        b'{"token":{"id":-1,"text":"","log_prob":-1,"special_token":true,"error_msg":"out of memory"},'
        b'"generated_text":"","details":{"finish_reason":"error"}}',
        "out of memory",
    ),
    Failed(
        "lmi token with its message, no details",
        b'{"token":{"id":-1,"text":"","log_prob":-1,"special_token":true,"error_msg":"out of memory"}}',
        "out of memory",
    ),
    Failed(
        "lmi whole, its last token's message",
        b'{"generated_text":"so far","details":{"finish_reason":"error","generated_tokens":2,"inputs":"Hi","tokens":['
        b'{"id":3,"text":"so far","log_prob":-0.1},'
        b'{"id":-1,"text":"","log_prob":-1,"special_token":true,"error_msg":"out of memory"}]}}',
        "out of memory",
    ),
    Failed(
        "lmi 3p",
        b'{"body":{"generation":null,"prompt_token_count":0,"generation_token_count":0,"stop_reason":"error"},'
        b'"metering":{"outputTokenCount":1},"content_type":"application/json",'
        b'"error":{"error":{"error_code":400,"error_msg":"input too long"}}}',
        "input too long (400)",
        code=400,
    ),
    Failed(
        "lmi 3p, one level less",
        b'{"error":{"error_code":"E1","error_msg":"input too long"}}',
        "input too long (E1)",
        code="E1",
    ),
    Failed(
        "lmi 3p, no message",
        b'{"body":{"generation":"","prompt_token_count":4,"generation_token_count":0,"stop_reason":"error"},'
        b'"metering":{},"content_type":"application/json"}',
    ),
    Failed(
        "lmi chat",
        b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""},'
        b'"logprobs":null,"finish_reason":"error"}]}',
    ),
    Failed(
        "lmi chat, no object",
        b'{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"error"}]}',
    ),
    Failed("lmi chat chunk, no object", b'{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}'),
    Failed(
        "lmi chat chunk",
        b'{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""},"logprobs":null,'
        b'"finish_reason":"error"}]}',
    ),
    Failed(
        "lmi embeddings",
        b'{"code":400,"type":"TranslateException","message":"bad"}',
        "bad (400, TranslateException)",
        code=400,
        error_type="TranslateException",
    ),
    Failed(
        "vllm",
        b'{"error":{"message":"bad","type":"BadRequestError","param":null,"code":400}}',
        "bad (400, BadRequestError)",
        code=400,
        error_type="BadRequestError",
    ),
    Failed(
        "vllm flat",
        b'{"object":"error","message":"bad","type":"BadRequestError","param":null,"code":400}',
        "bad (400, BadRequestError)",
        code=400,
        error_type="BadRequestError",
    ),
    Failed(
        "tei", b'{"error":"batch size","error_type":"Validation"}', "batch size (Validation)", error_type="Validation"
    ),
    Failed(
        "hf toolkit",
        b'{"code":400,"type":"InternalServerException","message":"bad"}',
        "bad (400, InternalServerException)",
        code=400,
        error_type="InternalServerException",
    ),
]


READERS: list[Any] = [
    AutoHandler(),
    ChatHandler(),
    ClassificationHandler(),
    EmbeddingsHandler(),
    EmbeddingsHandler(pooling="mean"),
    JumpStartTextHandler("flan-t5"),
    OpenAICompletionsHandler(),
    RerankHandler(),
    SimilaritySearchHandler(),
    SparseEmbeddingsHandler(),
    TabularHandler("json", "json"),
    TabularRowsHandler("json", "json"),
    TextGenerationHandler(),
]
"""Handlers that read JSON of known shapes, one for each shape."""

ABSENT = object()
OTHERS: tuple[Any, ...] = (ABSENT, None, True, 7, 10**400, "None", "text", [], {}, [None], ["text"], [[1]], {"a": 1})
"""The values that a field is changed to: absent, null, and values of other types."""


def kind_of(value: Any) -> type:
    """Give JSON's type of a value; a number beyond floats is a type of its own."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return complex if abs(value) > 1e308 else float
    return type(value)


def mutated(value: Any) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Give a parsed answer with each field absent, null or of another type: the place, the new value, the answer.

    The items of its lists are changed too, but not left out: there may be any number of them.
    """

    def change(inner: Any, place: tuple[Any, ...], other: Any) -> Any:
        if not place:
            return other
        head, *rest = place
        copy = dict(inner) if isinstance(inner, dict) else list(inner)
        if not rest and other is ABSENT:
            del copy[head]
        else:
            copy[head] = change(inner[head], tuple(rest), other)
        return copy

    for place in places(value):
        before = value
        for name in place:
            before = before[name]
        for other in OTHERS:
            if kind_of(other) is not kind_of(before) and not (other is ABSENT and isinstance(place[-1], int)):
                yield place, other, change(value, place, other)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Give the place of every field and every item of a parsed answer."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (name,)
        for place in places(inner):
            yield (name, *place)


def parsed(body: bytes) -> list[Any]:
    """Give the answer, or the items of a stream, that are JSON objects or lists."""
    try:
        return [json.loads(body)]
    except ValueError:
        lines = [line.removeprefix(b"data:").strip() for line in body.split(b"\n")]
        return [json.loads(line) for line in lines if line[:1] in (b"{", b"[") and line != b"[DONE]"]
