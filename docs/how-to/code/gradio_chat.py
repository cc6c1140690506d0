"""A chat in Gradio: ``python gradio_chat.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from smendpoint import AsyncEndpoint, ChatHandler

endpoint = AsyncEndpoint("my-chat", content_handler=ChatHandler())


async def reply(message: str, history: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield the answer so far, each time that it grows."""
    said = [{"role": one["role"], "content": one["content"]} for one in history]
    text = ""
    async with endpoint.stream([*said, {"role": "user", "content": message}]) as chunks:
        async for chunk in chunks:
            text += chunk.text
            yield text


demo = gr.ChatInterface(reply)

if __name__ == "__main__":
    demo.launch()
