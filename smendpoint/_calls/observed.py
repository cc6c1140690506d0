"""The facts about a request and its answer that hooks get besides those of the call: none of them is content.

Imported by the first call of an endpoint that has hooks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smendpoint._calls.pipeline import Pipeline
    from smendpoint._core.call.hooks import CallInfo
    from smendpoint._core.http.body import ObservedBody

# Hooks get a parameter only if its name is in these lists and its value has the right kind: another value under such a
# name, or anything under another name, may be content. The names are those of OpenAI's API, vLLM, SGLang, TGI, LMI,
# Hugging Face's generation, Cohere, AI21 and text-embeddings-inference.
_LENGTHS = """
    max_tokens max_completion_tokens max_output_tokens max_new_tokens max_length maxTokens max_tokens_to_sample
    min_tokens min_new_tokens min_length minTokens max_time truncate truncate_prompt_tokens
"""
_SAMPLING = """
    temperature top_p top_k min_p topP topK typical_p top_a tfs p k seed random_seed do_sample use_beam_search
    num_beams num_beam_groups early_stopping penalty_alpha epsilon_cutoff eta_cutoff
    frequency_penalty presence_penalty repetition_penalty length_penalty diversity_penalty no_repeat_ngram_size
"""
_OUTPUTS = """
    n best_of num_return_sequences num_generations numResults
    stream logprobs top_logprobs prompt_logprobs top_n_tokens details decoder_input_details return_full_text echo
    ignore_eos skip_special_tokens include_stop_str_in_output watermark parallel_tool_calls dimensions normalize
"""
_NUMBERS = frozenset(f"{_LENGTHS}{_SAMPLING}{_OUTPUTS}".split())
_STOPS = frozenset(("stop", "stop_sequences", "stopSequences", "stop_strings"))
_WORDS = {
    "encoding_format": ("float", "base64"),
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh"),
    "truncation_direction": ("left", "right", "Left", "Right"),
}


def _allowed(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the parameters that hooks may see."""
    allowed: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NUMBERS:
            if isinstance(value, (bool, int, float)):
                allowed[name] = value
        elif name in _STOPS:
            stops = (value,) if isinstance(value, str) else tuple(value or ())
            if stops and all(isinstance(stop, str) for stop in stops):
                allowed[name] = stops
        elif name in _WORDS and value in _WORDS[name]:
            allowed[name] = value
    return allowed


def observed_request(
    handler: Any, endpoint_name: str, value: Any, stop: Sequence[str], given: Mapping[str, Any]
) -> tuple[str | None, str, Mapping[str, object]]:
    """Return the task, the model and the parameters of a request, as far as its content handler gives them.

    Args:
        handler: the content handler.
        endpoint_name: the model's name if the request has none.
        value: the input.
        stop: the stop sequences of the call.
        given: the model's parameters, including those of the endpoint.
    """
    task: str | None = None
    model: Any = None
    parameters: dict[str, Any] = {}
    with suppress(Exception):  # observing must not change the call
        task = getattr(handler, "task", None)
        if task == "text_completion" and not isinstance(value, str):
            task = "chat"  # messages, for a handler that takes both
        read = getattr(handler, "request_parameters", None)
        if read is not None:
            given = read(value, dict(given))
        model = given.get("model")
        parameters = _allowed({"stop": stop, **given} if stop else given)
    return task, model if isinstance(model, str) else endpoint_name, parameters


def note_answer(info: CallInfo, handler: Any, body: ObservedBody) -> None:
    """Note for hooks what the content handler reads in a whole answer besides the output."""
    read = getattr(handler, "read_details", None)
    if read is not None:
        with suppress(Exception):  # observing must not change the call
            _note(info, read(body))
    body.parsed = None  # a `Response` keeps the body


def note_stream(info: CallInfo, pipeline: Pipeline[Any]) -> None:
    """Note for hooks what a stream's decoder knows at the end of the stream."""
    with suppress(Exception):  # observing must not change the call
        _note(info, pipeline.decoder)
        info.finish_reason = pipeline.finish_reason


def _note(info: CallInfo, details: Any) -> None:
    """Note the known details: those of `OutputDetails`, or the members of a stream decoder with the same names."""
    for name in ("finish_reason", "usage", "response_model", "response_id"):
        setattr(info, name, getattr(details, name, None))
