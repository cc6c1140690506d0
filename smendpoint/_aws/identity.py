"""Who asks, and where: the arguments, checked but not yet looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._aws.url import parse_endpoint_url
from smendpoint._core.request import plain, validate_region
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Identity"]

_TEXTS = (
    "region_name",
    "credentials_profile_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "role_arn",
    "role_session_name",
    "external_id",
    "endpoint_url",
)
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class Identity:
    """Who asks, and where: immutable, and made without any input or output.

    An identity pickles as configuration. A profile and a role are looked up where it is unpickled, and without them so
    are the credentials that botocore's default chain finds there. Explicit keys, a ``session`` and passwords of proxies
    stay behind, for secrets must not travel; where one did, the unpickled identity cannot be resolved: it would be
    another's.

    Args:
        region_name: the AWS region; by default botocore's choice (``AWS_DEFAULT_REGION``, then the profile).
        credentials_profile_name: a profile of the AWS config and credentials files.
        aws_access_key_id: explicit credentials, together with the secret key.
        aws_secret_access_key: explicit credentials, together with the access key.
        aws_session_token: the token of explicit temporary credentials.
        role_arn: a role to assume with the credentials that the other arguments give; renewed by itself.
        role_session_name: how the role's session shows in logs; needs ``role_arn``.
        external_id: the external id that the role's trust policy asks for; needs ``role_arn``.
        session: a botocore or boto3 session to take configuration and credentials from.
        endpoint_url: the URL to call instead of the region's own.
        config: a botocore ``Config``.
        allow_plain_http: whether requests may leave this machine unencrypted.
        allow_link_local: whether requests may go to link-local and metadata addresses.

    Raises:
        ConfigurationError: an argument does not fit.
    """

    __slots__ = (
        "allow_link_local",
        "allow_plain_http",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "config",
        "credentials_profile_name",
        "endpoint_url",
        "external_id",
        "left_behind",
        "region_name",
        "role_arn",
        "role_session_name",
        "session",
    )

    region_name: str | None
    credentials_profile_name: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    role_arn: str | None
    role_session_name: str | None
    external_id: str | None
    session: Any
    endpoint_url: str | None
    config: Any
    allow_plain_http: bool
    allow_link_local: bool
    left_behind: tuple[str, ...]
    """The arguments that did not travel when this identity was pickled."""

    def __init__(
        self,
        *,
        region_name: str | None = None,
        credentials_profile_name: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        role_arn: str | None = None,
        role_session_name: str | None = None,
        external_id: str | None = None,
        session: Any = None,
        endpoint_url: str | None = None,
        config: Any = None,
        allow_plain_http: bool = False,
        allow_link_local: bool = False,
    ) -> None:
        given: dict[str, Any] = {
            "region_name": region_name,
            "credentials_profile_name": credentials_profile_name,
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
            "role_arn": role_arn,
            "role_session_name": role_session_name,
            "external_id": external_id,
            "endpoint_url": endpoint_url,
        }
        for name, value in given.items():
            given[name] = _text(name, value)
        if (aws_access_key_id is None) != (aws_secret_access_key is None):
            raise ConfigurationError("aws_access_key_id and aws_secret_access_key go together: give both or neither")
        if aws_session_token is not None and aws_access_key_id is None:
            raise ConfigurationError("aws_session_token needs aws_access_key_id and aws_secret_access_key beside it")
        if role_arn is None and (role_session_name is not None or external_id is not None):
            raise ConfigurationError("role_session_name and external_id need a role_arn to go with")
        if role_arn is not None and not role_arn.startswith("arn:"):
            raise ConfigurationError("role_arn must be an ARN, such as arn:aws:iam::123456789012:role/name")
        if session is not None and credentials_profile_name is not None:
            raise ConfigurationError(
                "session and credentials_profile_name exclude each other: make the session with that profile"
            )
        if session is not None and not callable(getattr(session, "get_credentials", None)):
            raise ConfigurationError("session must be a botocore or boto3 session")
        if config is not None and not hasattr(config, "merge"):
            raise ConfigurationError("config must be a botocore.config.Config")
        if region_name is not None:
            validate_region(region_name)
        if endpoint_url is not None:
            parse_endpoint_url(endpoint_url, allow_plain_http=allow_plain_http, allow_link_local=allow_link_local)
        others = {
            "session": session,
            "config": config,
            "allow_plain_http": bool(allow_plain_http),
            "allow_link_local": bool(allow_link_local),
            "left_behind": (),
        }
        self._set({**given, **others})

    def _set(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an Identity cannot be changed: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an Identity cannot be changed: make a new one")

    def __copy__(self) -> Identity:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Identity:
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.__slots__}
        left = [name for name in ("session", *_KEYS) if state[name] is not None]
        for name in left:
            state[name] = None
        state["config"], stripped = _without_proxy_passwords(self.config)
        if stripped:
            left.append("the password in config.proxies")
        state["left_behind"] = self.left_behind + tuple(name for name in left if name not in self.left_behind)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(state)

    def __repr__(self) -> str:
        shown: list[str] = []
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and name not in ("aws_secret_access_key", "aws_session_token", "external_id"):
                shown.append(f"{name}={value!r}")
        if self.aws_session_token is not None:
            shown.append("aws_session_token=<hidden>")
        shown += [f"{name}=<given>" for name in ("external_id", "session", "config") if getattr(self, name) is not None]
        shown += [f"{name}=True" for name in ("allow_plain_http", "allow_link_local") if getattr(self, name)]
        return f"Identity({', '.join(shown)})"


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a string that is not empty, or None")
    return plain(value)


def _without_proxy_passwords(config: Any) -> tuple[Any, bool]:
    """The config with the userinfo of its proxies removed, and whether there was any."""
    proxies = getattr(config, "proxies", None)
    if not proxies or not any("@" in str(url) for url in proxies.values()):
        return config, False
    bare: dict[str, str] = {}
    for scheme, url in proxies.items():
        before, separator, rest = str(url).rpartition("://")
        bare[scheme] = before + separator + rest.rpartition("@")[2]
    return config.merge(type(config)(proxies=bare)), True
