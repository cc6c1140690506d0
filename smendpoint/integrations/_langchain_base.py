"""The common part of LangChain's classes: the arguments of an endpoint as pydantic fields, and its twins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.load.serializable import Serializable
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from smendpoint._calls.endpoint import remade
from smendpoint._core.call.limit import AdaptiveConcurrency
from smendpoint._core.call.retry import RetryPolicy
from smendpoint._options import ENDPOINT_OPTIONS, MAX_RESPONSE_BYTES
from smendpoint.async_endpoint import AsyncEndpoint
from smendpoint.endpoint import Endpoint
from smendpoint.errors import ConfigurationError
from smendpoint.handlers import AutoHandler, JumpStartChatHandler, JumpStartTextHandler, TextGenerationHandler
from smendpoint.integrations._twins import Twins

if TYPE_CHECKING:
    from langchain_core.language_models import LangSmithParams
    from typing_extensions import Self

__all__ = ["CONFIG", "PROVIDER", "GeneratingModel", "SageMakerModel"]

PROVIDER = "amazon_sagemaker"

# A misspelled argument is refused. A pydantic error does not show the values, because they may include keys.
CONFIG = ConfigDict(
    arbitrary_types_allowed=True,
    extra="forbid",
    hide_input_in_errors=True,
    protected_namespaces=(),
)

# Neither a pickle nor a serialized model holds these separately from the endpoint.
_SECRETS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
_LIVE = {**dict.fromkeys(("client", "endpoint", "external_id", "s3_client", "session")), **dict.fromkeys(_SECRETS)}


def _option(default: Any = None, **options: Any) -> Any:
    """Declare an option of the endpoint, which is made with the model and does not change afterwards."""
    return Field(default, frozen=True, **options)


def _hidden() -> Any:
    """Declare an option that may hold a secret or an object, so that only the endpoint shows it in a safe form."""
    return _option(exclude=True, repr=False)


class SageMakerModel(BaseModel):
    """The common base of LangChain's classes. An argument that is missing here is described at `Endpoint`."""

    model_config = CONFIG

    endpoint_name: str = _option("")
    """The endpoint's name."""
    endpoint: Any = _hidden()
    """An `Endpoint` or `AsyncEndpoint` to call through, instead of all arguments that make one. It stays open."""
    content_handler: Any = _hidden()
    """Makes requests from inputs and outputs from answers."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Parameters for the model, sent with every call; a call's own take precedence."""
    endpoint_kwargs: Mapping[str, Any] | None = _hidden()
    inference_component_name: str | None = _option()
    region_name: str | None = _option()
    credentials_profile_name: str | None = _option()
    aws_access_key_id: SecretStr | None = _option(repr=False)
    aws_secret_access_key: SecretStr | None = _option(repr=False)
    aws_session_token: SecretStr | None = _option(repr=False)
    role_arn: str | None = _option()
    role_session_name: str | None = _option()
    external_id: SecretStr | None = _hidden()
    session: Any = _hidden()
    endpoint_url: str | None = _option(repr=False)
    config: Any = _hidden()
    allow_plain_http: bool = _option(False)
    allow_link_local: bool = _option(False)
    client: Any = _hidden()
    s3_client: Any = _hidden()
    timeout: Any = _option()
    """The limit in seconds for connecting and for silence, or a `Timeout`."""
    retry: Any = _hidden()
    """A `RetryPolicy`."""
    max_retries: int | None = _option()
    """How often a call is tried again, instead of `retry`."""
    concurrency: Any = Field(default_factory=AdaptiveConcurrency, frozen=True, exclude=True, repr=False)
    """How many calls may be in flight at once: by default the number that `AdaptiveConcurrency` finds, so that a batch
    of any size works. A number is a fixed maximum, and ``None`` sets no limit."""
    max_connections: int | None = _option()
    max_response_bytes: int | None = _option(MAX_RESPONSE_BYTES)
    hooks: Any = _hidden()
    """Hooks that are notified of the steps of each call; see `CallHooks`."""
    clock: Any = _hidden()
    connections: Any = Field(default=None, exclude=True, repr=False)
    """Leave it out: it keeps the connections when LangChain makes a new model from the fields of this one."""

    if not TYPE_CHECKING:  # type checkers read the fields

        def __init__(self, **fields: Any) -> None:
            """Make the model and its endpoint, which opens its first connection at the first call.

            Raises:
                ConfigurationError: an argument is not valid for an endpoint.
                pydantic.ValidationError: an argument is not known, or has the wrong type.
            """
            try:
                if isinstance(fields.get("endpoint"), (Endpoint, AsyncEndpoint)):
                    fields.setdefault("endpoint_name", fields["endpoint"].endpoint_name)
                super().__init__(**fields)
                options = {name: getattr(self, name) for name in self._option_names()}
                if not (isinstance(self.connections, Twins) and self.connections.fits(options)):
                    self.connections = self._make_twins(options)
            except BaseException as error:  # so that a traceback with variables shows no secret
                fields = options = None
                raise error.with_traceback(None)  # noqa: B904 - it is the same one

    def _default_handler(self) -> Any:
        raise AssertionError  # pragma: no cover  # every class has its own

    @classmethod
    def _option_names(cls) -> set[str]:
        return {name for name, field in cls.model_fields.items() if field.frozen}

    @property
    def _twins(self) -> Twins:
        found: Twins = self.connections
        return found

    def _make_twins(self, options: dict[str, Any]) -> Twins:
        fields = type(self).model_fields
        given = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in options.items()
            if name in ENDPOINT_OPTIONS and value != fields[name].get_default(call_default_factory=True)
        }
        if self.max_retries is not None:
            if self.retry is not None:
                raise ConfigurationError("max_retries and retry= mean the same: leave out one of them")
            given["retry"] = RetryPolicy(max_attempts=self.max_retries + 1)
        if self.endpoint is None:
            usual: dict[str, Any] = {"concurrency": self.concurrency, "content_handler": self._default_handler()}
            made: Any = Endpoint(self.endpoint_name, **usual | given)
            return Twins(made, ours=True, options=options)
        if not isinstance(self.endpoint, (Endpoint, AsyncEndpoint)):
            raise ConfigurationError(f"endpoint must be an Endpoint, not {type(self.endpoint).__name__}")
        if self.endpoint_name != self.endpoint.endpoint_name:
            raise ConfigurationError("endpoint= and endpoint_name are different: leave out endpoint_name")
        if given:
            raise ConfigurationError(f"endpoint= already exists: leave out {', '.join(given)}, or make it with them")
        if self.endpoint._caller.settings["content_handler"] is not None:
            return Twins(self.endpoint, ours=False, options=options)
        # The handler of texts, an endpoint's own default, was not chosen by the user.
        fitting = remade(type(self.endpoint), self.endpoint, content_handler=self._default_handler())
        return Twins(fitting, ours=True, options=options)

    def _token_limit(self) -> str:
        """The name of the parameter that limits the new tokens, in the format of the content handler."""
        handler = self._twins.handler
        by_pipeline = isinstance(handler, (JumpStartChatHandler, JumpStartTextHandler, TextGenerationHandler))
        if by_pipeline or (isinstance(handler, AutoHandler) and handler.prompt_format == "inputs"):
            return "max_new_tokens"
        return "max_tokens"

    def close(self) -> None:
        """Close the open connections. Those of asyncio close with their event loop, or with `aclose`.

        An endpoint that was passed in stays open. Copies of the model share its connections.
        """
        self._twins.close()

    async def aclose(self) -> None:
        """Close the open connections, including those of asyncio."""
        await self._twins.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy the model: with the same connections, unless `update` has options of the endpoint."""
        if self._option_names().isdisjoint(update or ()):
            copied = super().model_copy(update=update, deep=deep)
            vars(copied).pop("_serialized", None)  # LangChain's copy of the original
            return copied
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | dict(update or {}))

    def __repr_args__(self) -> Any:
        return [(name, value) for name, value in super().__repr_args__() if name in self.model_fields_set]

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], **_LIVE}}  # the endpoint decides what it does not pickle


class GeneratingModel(SageMakerModel, Serializable):
    """The common base of the chat model and the text model: parameters, and their serialization."""

    model_config = CONFIG

    model: str | None = None
    """The model's name, if the container has several (adapters of vLLM); most containers need none."""
    temperature: float | None = None
    max_tokens: int | None = None
    """The most new tokens, sent with the name that the content handler's format uses."""
    top_p: float | None = None
    stop: list[str] | str | None = None
    """Texts at which an answer ends, unless a call has its own."""
    streaming: bool = False
    """Whether ``invoke`` and ``ainvoke`` also stream, so that callbacks get each token."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return that LangChain can serialize the model; secrets and objects are left out."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the module where LangChain finds the class again."""
        return ["smendpoint", "integrations", "langchain"]

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variables that stand for secrets in the serialized model."""
        return _SECRETS

    def to_json(self) -> Any:
        """Return the form for LangChain's serialization: the given texts and numbers, without secrets."""
        written: Any = super().to_json()
        if not isinstance(self.timeout, (int, float)):
            written["kwargs"].pop("timeout", None)
        written["kwargs"] = {name: value for name, value in written["kwargs"].items() if name in self.model_fields_set}
        return written

    def _own_parameters(self) -> dict[str, Any]:
        """The parameters for the model that are set, by LangChain's names."""
        names = ("model", "temperature", "max_tokens", "top_p")
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**self.model_kwargs, **own}

    def _call(self, stop: list[str] | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the keywords of a call to the endpoint: parameters for the model, and the stop sequences."""
        parameters = {**self._own_parameters(), **given}
        parameters.pop("stream", None)  # LangChain's way to request a stream; the handler tells the model
        limit = self._token_limit()
        if limit != "max_tokens" and "max_tokens" in parameters:
            parameters.setdefault(limit, parameters.pop("max_tokens"))
        stops = self._stops(stop)
        if stops is None:  # they may be among the parameters
            stops = self._stops(parameters.get("stop"))
        return {**parameters, "stop": stops}

    def _stops(self, stop: list[str] | str | None) -> list[str] | None:
        chosen = self.stop if stop is None else stop
        return [chosen] if isinstance(chosen, str) else chosen

    @property
    def _identifying_params(self) -> dict[str, Any]:
        named = {"endpoint_name": self.endpoint_name, "inference_component_name": self.inference_component_name}
        return {name: value for name, value in named.items() if value is not None} | self._own_parameters()

    def _traced(self, stop: list[str] | None, given: Mapping[str, Any]) -> LangSmithParams:
        """Return what LangSmith shows of a call."""
        parameters = {**self._own_parameters(), **given}
        traced = {
            "ls_provider": PROVIDER,
            "ls_model_name": parameters.get("model") or self.inference_component_name or self.endpoint_name,
            "ls_temperature": parameters.get("temperature"),
            "ls_max_tokens": parameters.get("max_tokens", parameters.get("max_new_tokens")),
            "ls_stop": self._stops(stop) or None,
        }
        return cast("LangSmithParams", {name: value for name, value in traced.items() if value is not None})
