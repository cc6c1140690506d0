"""A chat in the terminal with a model that calls functions of this program.

``python chat_tools.py my-chat`` talks to the endpoint ``my-chat``. Ctrl-C stops an
answer, Ctrl-D ends the chat.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from smendpoint import Endpoint, SmendpointError
from smendpoint.handlers import ChatChunk, ChatCompletion, ChatHandler, ToolCall

Message: TypeAlias = dict[str, Any]
Chat: TypeAlias = Endpoint[Any, ChatCompletion, ChatChunk]

SHELVES = {"dune": "shelf 7", "emma": "shelf 2"}
HOURS = {"saturday": "9 to 13", "sunday": "closed"}
MAX_ROUNDS = 5


def find_book(title: str) -> str:
    """Say where a book is."""
    if title.lower() not in SHELVES:
        raise LookupError(f"there is no book {title!r}; known are {list(SHELVES)}")
    return SHELVES[title.lower()]


def opening_hours(day: str) -> str:
    """Say when the library is open on a day of the week."""
    return HOURS.get(day.lower(), "9 to 18")


def described(tool: Callable[..., str]) -> Message:
    """Describe a function to the model. All its arguments are strings here."""
    names = list(inspect.signature(tool).parameters)
    properties = {name: {"type": "string"} for name in names}
    schema = {"type": "object", "properties": properties, "required": names}
    about = {"name": tool.__name__, "description": tool.__doc__, "parameters": schema}
    return {"type": "function", "function": about}


TOOLS = {tool.__name__: tool for tool in (find_book, opening_hours)}
DESCRIBED = [described(tool) for tool in TOOLS.values()]


def run(call: ToolCall) -> str:
    """Run a tool, and give the model its result or its failure."""
    print(f"[{call.name} {call.arguments}]")
    try:
        return TOOLS[call.name](**call.parse_arguments())
    except Exception as error:
        return f"Error: {type(error).__name__}: {error}"


def answer(endpoint: Chat, messages: list[Message]) -> None:
    """Stream the answer to the messages, and append it and the tools' results."""
    for number in range(MAX_ROUNDS + 1):
        choice = "auto" if number < MAX_ROUNDS else "none"  # at last, only text
        with endpoint.stream(messages, tools=DESCRIBED, tool_choice=choice) as chunks:
            for chunk in chunks:
                print(chunk.text, end="", flush=True)
        completion = chunks.completion
        messages.append(completion.to_message())
        if not completion.tool_calls:
            break
        for call in completion.tool_calls:
            result = {"role": "tool", "tool_call_id": call.id, "content": run(call)}
            messages.append(result)
    print()


def main() -> None:
    messages = [{"role": "system", "content": "You help in a library. Be brief."}]
    with Endpoint(sys.argv[1], content_handler=ChatHandler()) as endpoint:
        while True:
            try:
                text = input("> ")
            except (EOFError, KeyboardInterrupt):
                break
            before = len(messages)
            messages.append({"role": "user", "content": text})
            try:
                answer(endpoint, messages)
            except (SmendpointError, KeyboardInterrupt) as error:
                del messages[before:]  # the conversation goes on without this question
                print(f"\n[{type(error).__name__}] {error}")


if __name__ == "__main__":
    main()
