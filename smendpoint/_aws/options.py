"""Every option of a botocore ``Config``, and how it is handled: each is honoured or refused, and none is ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from smendpoint._aws.machine import check_user_agent
from smendpoint._aws.target import Limits
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FOR_OTHER_CLIENTS", "OPTIONS", "Settings", "merge_config", "options_given", "read_config"]

# botocore itself applies these to its answers.
_FOR_BOTOCORE = """
    defaults_mode ignore_configured_endpoint_urls region_name use_dualstack_endpoint use_fips_endpoint user_agent_appid
"""
# `read_config` reads these, and our transport honours them.
_FOR_US = """
    client_cert connect_timeout max_pool_connections proxies read_timeout user_agent user_agent_extra
"""
# Some of their values are honoured, the others refused.
_IN_PART = """
    parameter_validation proxies_config retries signature_version tcp_keepalive
"""
# botocore does nothing with these for this service either: they are for traits that none of its operations has.
_WITHOUT_EFFECT = """
    account_id_endpoint_mode auth_scheme_preference client_context_params disable_request_compression
    endpoint_discovery_enabled inject_host_prefix request_checksum_calculation request_min_compression_size_bytes
    response_checksum_validation s3 s3_disable_express_session_auth sigv4a_signing_region_set
"""
OPTIONS = frozenset((_FOR_BOTOCORE + _FOR_US + _IN_PART + _WITHOUT_EFFECT).split())

# The options that also apply to an endpoint's clients for other services. The others are about this service's endpoint.
FOR_OTHER_CLIENTS = (
    "connect_timeout",
    "ignore_configured_endpoint_urls",
    "proxies",
    "proxies_config",
    "read_timeout",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "user_agent_appid",
    "user_agent_extra",
)

_CURE = "; pass client= to have botocore's own client do it"


class Settings(NamedTuple):
    """The options of a ``Config`` that our transport honours; ``None`` if one is not set."""

    limits: Limits = Limits()
    client_cert: str | tuple[str, str] | None = None
    proxies: Mapping[str, str] | None = None
    user_agent: str | None = None
    user_agent_extra: str | None = None


def merge_config(config: Any, session: Any) -> Any:
    """Return a given session's default ``Config``, overridden by the given one; ``None`` if there is neither."""
    default = None if session is None else session.get_default_client_config()
    return config if default is None else default if config is None else default.merge(config)


def options_given(config: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named options that were set in the constructor of a ``Config``, for another ``Config``."""
    provided = getattr(config, "_user_provided_options", {})
    given = {name: provided[name] for name in names if name in provided}
    if given.get("retries"):
        given["retries"] = dict(given["retries"])  # making a client rewrites this mapping, which belongs to the caller
    return given


def read_config(config: Any) -> Settings:
    """Read a botocore ``Config``, or ``None``.

    Raises:
        ConfigurationError: an option, or a value of one, cannot be honoured.
    """
    given = {} if config is None else _given(config)
    for name in given:
        if name not in OPTIONS:
            raise ConfigurationError(f"config: the option {name} is not known here{_CURE}")
    _refuse(given)
    return Settings(
        limits=Limits(
            connect_timeout=_seconds(given, "connect_timeout"),
            read_timeout=_seconds(given, "read_timeout"),
            max_pool_connections=_count(given.get("max_pool_connections")),
        ),
        client_cert=_client_cert(given.get("client_cert")),
        proxies=_proxies(given.get("proxies")),
        user_agent=check_user_agent("config: user_agent", given.get("user_agent")),
        user_agent_extra=check_user_agent("config: user_agent_extra", given.get("user_agent_extra")),
    )


def _given(config: Any) -> dict[str, Any]:
    """Return the options that the user set, whether in the constructor or afterwards, by attribute."""
    provided = getattr(config, "_user_provided_options", {})
    given: dict[str, Any] = {}
    for name, default in config.OPTION_DEFAULTS.items():
        if name == "inject_host_prefix":
            continue  # without effect for this service, and its attribute hides whether it was set
        value = getattr(config, name)
        if name in provided:
            if value is not None or name in ("connect_timeout", "read_timeout"):
                given[name] = value
        elif value != default and value is not None:
            given[name] = value
    return given


def _refuse(given: Mapping[str, Any]) -> None:
    if given.get("signature_version", "v4") != "v4":
        raise ConfigurationError(f"config: signature_version must be 'v4': this service supports no other{_CURE}")
    if not given.get("parameter_validation", True):
        raise ConfigurationError(f"config: parameter_validation cannot be turned off{_CURE}")
    if given.get("proxies_config"):
        raise ConfigurationError(f"config: proxies_config (TLS settings for a proxy) is not supported{_CURE}")
    if not given.get("tcp_keepalive", True):
        raise ConfigurationError(f"config: tcp_keepalive cannot be turned off{_CURE}")
    retries: Mapping[str, object] = given.get("retries") or {}
    # "legacy" is botocore's default: it writes that into the caller's Config when it makes any client of it.
    mode = retries.get("mode")
    if mode not in (None, "standard", "legacy"):
        raise ConfigurationError(
            f"config: the retry mode {mode!r} is not supported, only 'standard' is; pass retry=RetryPolicy(...), or "
            "pass client= to have botocore's own retries"
        )


def _seconds(given: Mapping[str, Any], name: str) -> float | None:
    if name not in given:
        return None
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigurationError(f"config: {name} must be a positive number of seconds{_CURE}")
    return float(value)


def _count(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigurationError("config: max_pool_connections must be a positive number")
    return value


def _client_cert(value: Any) -> str | tuple[str, str] | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, tuple):
        parts = cast("tuple[object, ...]", value)
        if len(parts) == 2 and all(isinstance(part, str) and part for part in parts):
            return cast("tuple[str, str]", parts)
    raise ConfigurationError("config: client_cert must be the path of a file, or the paths of certificate and key")


def _proxies(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    for scheme in value:
        if scheme not in ("http", "https"):
            raise ConfigurationError(
                "config: proxies may only have the keys 'http' and 'https': botocore reads no others"
            )
    chosen: dict[str, str] = dict(value)
    return chosen
