"""The OpenAI SDK on a SageMaker endpoint: a base URL, and bearer tokens that renew themselves.

SageMaker serves OpenAI's chat completions under a separate path, for containers that support them (AWS's vLLM and
SGLang among others). Two lines connect the ``openai`` package to it::

    access = OpenAIAccess("my-llm", region_name="us-west-2")
    client = OpenAI(base_url=access.base_url, api_key=access.token)

and for asyncio ``AsyncOpenAI(base_url=access.base_url, api_key=access.token_async)``. The caller's role needs the
permissions ``sagemaker:InvokeEndpoint`` and ``sagemaker:CallWithBearerToken``.

Sources for the form of the token: AWS's documentation of OpenAI-compatible real-time endpoints, and the package
sagemaker-core, which makes the same token.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

from smendpoint import errors
from smendpoint._aws import Identity, resolve
from smendpoint._core.aws.operations import validate_endpoint_name
from smendpoint._core.aws.sigv4 import Signer
from smendpoint._core.call.timing import check_number
from smendpoint._transport.deadline import SYSTEM_CLOCK
from smendpoint._transport.threads import off_loop, spawn

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from smendpoint._aws import Target
    from smendpoint._core.aws.sigv4 import Credentials
    from smendpoint._core.call.timing import Clock
    from smendpoint._options import IdentityOptions

__all__ = ["OpenAIAccess"]

# The longest lifetime of a token that the service allows, in seconds.
MAX_LIFETIME = 43_200
_TOKEN_HOST = "sagemaker.amazonaws.com"
_TOKEN_PREFIX = "sagemaker-api-key-"
# A token is renewed when a tenth of its lifetime is left, so that it remains valid during a long call.
_RENEW_SHARE = 0.9


class OpenAIAccess:
    """Gives the ``openai`` package a base URL and tokens for a SageMaker endpoint. Threads and tasks can share it.

    The constructor reads no file; the first use does.

    Args:
        endpoint_name: the endpoint's name.
        inference_component_name: the inference component to call, where the endpoint has several.
        lifetime: how long a token is valid, in seconds, 1 to 43,200. A token made with temporary credentials expires
            with them.
        clock: the source of time; for tests.
        **identity: `Endpoint`'s arguments from `region_name` to `allow_link_local`, with the same meaning.

    Raises:
        ConfigurationError: an argument is not valid.
    """

    def __init__(
        self,
        endpoint_name: str,
        *,
        inference_component_name: str | None = None,
        lifetime: float = MAX_LIFETIME,
        clock: Clock | None = None,
        **identity: Unpack[IdentityOptions],
    ) -> None:
        self._name = validate_endpoint_name(endpoint_name)
        self._component: str | None = None
        if inference_component_name is not None:
            self._component = validate_endpoint_name(inference_component_name, "inference_component_name")
        self._lifetime = int(check_number("lifetime", lifetime, least=1.0))
        if self._lifetime > MAX_LIFETIME:
            raise errors.ConfigurationError(f"lifetime must be at most {MAX_LIFETIME:,} seconds, not {lifetime!r}")
        self._identity = Identity(**identity)
        self._clock: Clock = clock or SYSTEM_CLOCK
        self._lock = threading.Lock()
        self._found: Target | None = None
        # The token, the credentials that made it, and when to make the next one: replaced together.
        self._made: tuple[str, Credentials, float] | None = None

    def __repr__(self) -> str:
        return f"OpenAIAccess({self._name!r})"

    def _target(self) -> Target:
        with self._lock:
            if self._found is None:
                try:
                    self._found = resolve(self._identity)
                except errors.SmendpointError as error:
                    error.endpoint_name = self._name
                    raise
            return self._found

    @property
    def base_url(self) -> str:
        """The ``base_url`` for the ``openai`` package's clients.

        Raises:
            ConfigurationError: there is no region, or a setting cannot be applied.
        """
        component = "" if self._component is None else f"/inference-components/{self._component}"
        return f"{self._target().url}/endpoints/{self._name}{component}/openai/v1"

    def token(self) -> str:
        """Return a bearer token that is valid now.

        Pass this method as the ``api_key`` of ``OpenAI``, which calls it before each request.

        Raises:
            CredentialsError: there are no usable credentials.
        """
        provider = self._target().credentials
        if provider.refresh_due():
            spawn("smendpoint-credentials", self._renew)
        return self._token(provider.current() or self._load())

    async def token_async(self) -> str:
        """`token` for ``AsyncOpenAI``: a thread reads files and fetches credentials."""
        if self._found is not None and self._found.credentials.current() is not None:
            return self.token()
        import asyncio

        return await off_loop(asyncio.get_running_loop(), self.token)

    def _load(self) -> Credentials:
        try:
            return self._target().credentials.load()
        except errors.SmendpointError as error:
            error.endpoint_name = self._name
            raise

    def _renew(self) -> None:
        with suppress(errors.CredentialsError):  # the call that needs them will raise it
            self._load()

    def _token(self, credentials: Credentials) -> str:
        now = self._clock.time()
        made = self._made
        if made is not None and made[1] == credentials and now < made[2]:
            return made[0]
        signer = Signer(region=self._target().region)
        query = signer.presign(
            method="POST",
            url_host=_TOKEN_HOST,
            path="/",
            query=[("Action", "CallWithBearerToken")],
            credentials=credentials,
            timestamp=now,
            expires=self._lifetime,
        )
        # The version is not signed: it comes after the signature.
        token = _TOKEN_PREFIX + b64encode(f"{_TOKEN_HOST}/?{query}&Version=1".encode()).decode()
        self._made = token, credentials, now + self._lifetime * _RENEW_SHARE
        return token
