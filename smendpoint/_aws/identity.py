"""The arguments that say who calls and where: checked, but not yet resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smendpoint._aws.url import parse_endpoint_url
from smendpoint._core.aws.operations import RUNTIME, Service, plain, validate_region
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._options import IDENTITY_OPTIONS, IdentityFields
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Unpack

    from smendpoint._aws.url import EndpointURL
    from smendpoint._options import IdentityOptions

__all__ = ["KEYS", "Identity"]

_FLAGS = ("allow_plain_http", "allow_link_local")
_OBJECTS = ("session", "config")
KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_TOKEN = "customer_identity_token"
_SECRETS = (*KEYS[1:], "external_id")


class Identity(IdentityFields):
    """The arguments that say who calls and where: immutable, and made without any I/O.

    An identity pickles as configuration. After unpickling, its profile and role are looked up; without these,
    botocore's default chain finds credentials there. Explicit keys, a ``session`` and passwords of proxies are left
    out, because secrets must not be pickled. Such an unpickled identity cannot be resolved: it would be a different
    one.

    Args:
        service: the service that is called.
        customer_identity_token: the token that a gateway passes on.
        **options: the options of an endpoint's constructor (`_options.py`).

    Raises:
        ConfigurationError: an argument is not valid.
    """

    left_behind: tuple[str, ...] = ()
    """The arguments that were left out when this identity was pickled."""
    service = RUNTIME
    customer_identity_token: str | None = None

    def __init__(
        self,
        service: Service = RUNTIME,
        *,
        customer_identity_token: str | None = None,
        **options: Unpack[IdentityOptions],
    ) -> None:
        vars(self)["service"] = service
        vars(self)[_TOKEN] = _text(_TOKEN, customer_identity_token)
        for name, value in options.items():
            if name not in IDENTITY_OPTIONS:
                raise TypeError(f"unexpected keyword argument {name!r}")
            vars(self)[name] = bool(value) if name in _FLAGS else value if name in _OBJECTS else _text(name, value)
        keys = [getattr(self, name) is not None for name in KEYS]
        if keys[0] != keys[1]:
            raise ConfigurationError("aws_access_key_id and aws_secret_access_key go together: pass both or neither")
        if keys[2] and not keys[0]:
            raise ConfigurationError("aws_session_token needs aws_access_key_id and aws_secret_access_key")
        if self.role_arn is None and (self.role_session_name is not None or self.external_id is not None):
            raise ConfigurationError("role_session_name and external_id need role_arn")
        if self.role_arn is not None and not self.role_arn.startswith("arn:"):
            raise ConfigurationError("role_arn must be an ARN, such as arn:aws:iam::123456789012:role/name")
        if self.session is not None and self.credentials_profile_name is not None:
            raise ConfigurationError(
                "session cannot be used with credentials_profile_name: make the session with that profile"
            )
        if self.session is not None and not callable(getattr(self.session, "get_credentials", None)):
            raise ConfigurationError("session must be a botocore or boto3 session")
        if self.config is not None and not hasattr(self.config, "merge"):
            raise ConfigurationError("config must be a botocore.config.Config")
        if self.region_name is not None:
            validate_region(self.region_name)
        if self.endpoint_url is not None:
            self.parse_url(self.endpoint_url, "endpoint_url")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an Identity cannot be changed: make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an Identity cannot be changed: make a new one")

    def __copy__(self) -> Identity:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Identity:
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in (*IDENTITY_OPTIONS, "service", _TOKEN)}
        left = [name for name in ("session", *KEYS, _TOKEN) if state[name] is not None]
        for name in left:
            state[name] = None
        state["config"], stripped = _without_proxy_passwords(self.config)
        if stripped:
            left.append("the password in config.proxies")
        state["left_behind"] = self.left_behind + tuple(name for name in left if name not in self.left_behind)
        return state

    @property
    def travels(self) -> bool:
        """Whether a pickle of it leaves nothing out, so that equal pickles are the same identity."""
        return bool(self.__getstate__()["left_behind"] == self.left_behind)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __repr__(self) -> str:
        shown: list[str] = []
        for name in IDENTITY_OPTIONS:
            value = getattr(self, name)
            if value is None or value is False:
                continue
            word = "<hidden>" if name in _SECRETS else "<given>" if name in _OBJECTS else repr(value)
            shown.append(f"{name}={word}")
        return f"Identity({', '.join(shown)})"

    @property
    def botocore_session(self) -> Any:
        """The given session as a botocore session; `None` if there is none."""
        return getattr(self.session, "_session", self.session)  # a boto3 session wraps botocore's

    def parse_url(self, url: str, source: str) -> EndpointURL:
        """Read the URL of an endpoint from the setting `source`, by the identity's own rules for unsafe addresses."""
        return parse_endpoint_url(
            url, source=source, allow_plain_http=self.allow_plain_http, allow_link_local=self.allow_link_local
        )

    @property
    def keys(self) -> dict[str, str | None]:
        """The explicit keys, with botocore's names; `None` for a key that was not given."""
        return {name: getattr(self, name) for name in KEYS}

    @property
    def credentials(self) -> Credentials | None:
        """The explicit credentials; `None` if none were given."""
        access_key, secret_key, token = self.keys.values()
        return None if access_key is None or secret_key is None else Credentials(access_key, secret_key, token)


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a non-empty string, or None")
    return plain(value)


def _without_proxy_passwords(config: Any) -> tuple[Any, bool]:
    """Return the config without the userinfo of its proxies, and whether there was any."""
    proxies = getattr(config, "proxies", None)
    if not proxies or not any("@" in str(url) for url in proxies.values()):
        return config, False
    bare: dict[str, str] = {}
    for scheme, url in proxies.items():
        before, separator, rest = str(url).rpartition("://")
        bare[scheme] = before + separator + rest.rpartition("@")[2]
    return config.merge(type(config)(proxies=bare)), True
