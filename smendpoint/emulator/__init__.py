"""The SageMaker runtime on your own machine: real HTTP on 127.0.0.1, with models that are Python callables.

Every client works against it: ours, boto3, aiobotocore, the AWS CLI, LangChain::

    from smendpoint.emulator import Emulator

    with Emulator({"my-llm": lambda request: b'[{"generated_text": "Hello"}]'}) as emulator:
        with emulator.endpoint("my-llm") as endpoint:  # or any client that is given ``emulator.url``
            print(endpoint.invoke("Hi"))

``emulator.inject("reset_mid_stream")`` plays a fault; `FAULTS` describes all of them.
"""

from __future__ import annotations

from smendpoint.emulator._auth import Credentials
from smendpoint.emulator._route import ReceivedRequest
from smendpoint.emulator.faults import FAULTS, Fault
from smendpoint.emulator.models import Model, ModelReply, ModelRequest, forward
from smendpoint.emulator.server import Emulator

__all__ = [
    "FAULTS",
    "Credentials",
    "Emulator",
    "Fault",
    "Model",
    "ModelReply",
    "ModelRequest",
    "ReceivedRequest",
    "forward",
]
