"""A chat in Streamlit: ``streamlit run streamlit_chat.py``."""

from __future__ import annotations

import streamlit as st

from smendpoint import ChatHandler, Endpoint


@st.cache_resource
def get_endpoint():
    """Make one endpoint for all sessions and reruns."""
    return Endpoint("my-chat", content_handler=ChatHandler())


messages = st.session_state.setdefault("messages", [])
for message in messages:
    st.chat_message(message["role"]).write(message["content"])

if prompt := st.chat_input():
    st.chat_message("user").write(prompt)
    asked = [*messages, {"role": "user", "content": prompt}]
    with get_endpoint().stream(asked) as chunks:
        text = st.chat_message("assistant").write_stream(map(str, chunks))
    messages[:] = [*asked, {"role": "assistant", "content": text}]
