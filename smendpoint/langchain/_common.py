"""What the names of LangChain have in common: what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smendpoint._options import EndpointOptions

__all__ = ["names", "refuse"]


class _Harmless(TypedDict, total=False):
    """Arguments of LangChain's that do nothing as long as they ask for nothing."""

    cache: Literal[False] | None
    callback_manager: None
    callbacks: None
    configurable: None
    custom_get_token_ids: None
    include_run_info: Literal[False] | None
    memory: None
    metadata: None
    name: None
    rate_limiter: None
    run_id: None
    run_name: None
    tags: None
    verbose: Literal[False] | None


if TYPE_CHECKING:

    class ModelOptions(EndpointOptions, _Harmless, total=False):
        """What the models take beside the name and the content handler."""


def refuse(what: str, unknown: Mapping[str, object]) -> None:
    """Refuse arguments that would have no effect.

    Raises:
        ConfigurationError: one is not of LangChain's, or asks for something.
    """
    asked = [name for name, value in unknown.items() if value or name not in _Harmless.__annotations__]
    if asked:
        raise ConfigurationError(f"{what} has no {names(asked)}: it would have no effect in smendpoint")


def names(found: Iterable[str]) -> str:
    """Give names as an error message has them."""
    return ", ".join(map(repr, found)) or "none"
