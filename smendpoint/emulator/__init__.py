"""The SageMaker runtime on your own machine: real HTTP on 127.0.0.1, with models that are Python callables.

Every client works with it: ours, boto3, aiobotocore, the AWS CLI, LangChain::

    from smendpoint.emulator import Emulator

    with Emulator({"my-llm": lambda request: b'[{"generated_text": "Hello"}]'}) as emulator:
        with emulator.endpoint("my-llm") as endpoint:  # or any client with ``emulator.url``
            print(endpoint.invoke("Hi"))

``emulator.inject("reset_mid_stream")`` plays a fault; `FAULTS` describes all of them.
"""

from __future__ import annotations

from smendpoint.emulator._auth import Credentials
from smendpoint.emulator._load import EndpointLoad
from smendpoint.emulator._route import ReceivedRequest
from smendpoint.emulator.faults import FAULTS, Fault
from smendpoint.emulator.models import (
    ConversationModel,
    Model,
    ModelConversation,
    ModelPart,
    ModelReply,
    ModelRequest,
    forward,
)
from smendpoint.emulator.server import Emulator

# The room: `server` runs a loop (`_thread`), `_listener` accepts, `_connection` reads a request (`_http`), finds its
# operation (`_route`) and its fault (`_state`), and has `_service` answer it: signature (`_auth`), slot (`_load`),
# session, model. The reply (`_reply`) becomes steps, which a fault may change; the connection plays them. Models run in
# the loop or in its executor (`_running`). A connection that begins like HTTP/2 is handed over to `_http2`. Each of its
# streams (`_http2_stream`) is a `_conversation`: `_events` reads and checks the input, the model runs, and its events,
# or the steps of a fault (`_talk`), are played. Both kinds of connections share `_peer`. The room may import the public
# `decoders` and `errors`, botocore in `_auth`, which checks signatures, h2 in `_http2` and websockets in `_websocket`:
# the emulator tests the client, so each has its own code for the same thing. Only `_endpoints`, which makes endpoints
# for users, imports the package.

__all__ = [
    "FAULTS",
    "ConversationModel",
    "Credentials",
    "Emulator",
    "EndpointLoad",
    "Fault",
    "Model",
    "ModelConversation",
    "ModelPart",
    "ModelReply",
    "ModelRequest",
    "ReceivedRequest",
    "forward",
]
