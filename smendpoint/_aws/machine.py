"""Settings that both ways of resolving read from this machine: trusted certificates, proxies, the user agent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from smendpoint._aws.url import parse_proxy
from smendpoint._version import __version__
from smendpoint.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smendpoint._aws.url import EndpointURL
    from smendpoint._core.http.proxy import Proxy

__all__ = ["ca_bundle", "check_user_agent", "proxy_for", "user_agent"]


def ca_bundle(configured: object) -> str | None:
    """Choose the certificates to trust, as botocore does.

    Args:
        configured: the setting ``ca_bundle`` (environment or profile), ``None`` if there is none.

    Returns:
        The path of a file: the configured one, else ``REQUESTS_CA_BUNDLE``, else certifi's if certifi is installed,
        else botocore's. ``None``, for the system's, if there is none of these.

    Raises:
        ConfigurationError: the configured bundle is not a file.
    """
    if configured is None:
        configured = os.environ.get("REQUESTS_CA_BUNDLE")
    if configured is None:
        return _packaged_bundle()
    # An empty value makes older botocores skip verification altogether.
    if not isinstance(configured, str) or not os.path.isfile(configured):
        raise ConfigurationError(
            f"the CA bundle {configured!r} is not a file; it comes from AWS_CA_BUNDLE, the profile's ca_bundle, or "
            "REQUESTS_CA_BUNDLE"
        )
    return configured


def _packaged_bundle() -> str | None:
    """Find certifi's bundle, else botocore's, if possible without the 20 ms of importing certifi."""
    if "certifi" not in sys.modules:
        for package in ("certifi", "botocore"):
            for entry in sys.path:
                folder = os.path.join(entry, package)
                if os.path.isfile(os.path.join(folder, "__init__.py")):
                    path = os.path.join(folder, "cacert.pem")
                    if os.path.isfile(path):
                        return path
                    break  # this is the package that would be imported, and it keeps its bundle elsewhere
    try:
        from certifi import where
    except ImportError:
        return None
    return where()


def proxy_for(url: EndpointURL, proxies: Mapping[str, str] | None) -> Proxy | None:
    """Choose the proxy, as botocore does.

    Args:
        url: where requests go.
        proxies: those of a botocore ``Config``, by scheme; they replace the environment's, including ``NO_PROXY``.

    Raises:
        ConfigurationError: the proxy is malformed or of a kind that is not supported.
    """
    if proxies is not None:
        proxy, source = proxies.get(url.scheme), "config: proxies"
        return parse_proxy(proxy, source=source) if proxy else None
    wanted = f"{url.scheme}_proxy"
    names = [name for name in os.environ if name.lower() == wanted]
    # On macOS and Windows the system's settings count too, and only urllib.request reads them; it takes 20 ms or more
    # to import. On other systems NO_PROXY alone, which is often set everywhere, is not a reason to do so.
    if sys.platform not in ("darwin", "win32") and not names:
        return None
    from urllib.request import getproxies, proxy_bypass

    proxy = None if proxy_bypass(url.host_header) else getproxies().get(url.scheme)
    # As in urllib.request: the lower-case variable wins, of the others the last.
    source = wanted if os.environ.get(wanted) else names[-1] if names else "the system's settings"
    return parse_proxy(proxy, source=source) if proxy else None


def user_agent(
    app_id: object, session_extra: object = None, *, whole: str | None = None, extra: str | None = None
) -> str:
    """Write the ``User-Agent`` header.

    Args:
        app_id: the application id of ``AWS_SDK_UA_APP_ID``, the profile or the ``Config``.
        session_extra: ``user_agent_extra`` of a session.
        whole: ``user_agent`` of a botocore ``Config``, which replaces everything before ``extra``.
        extra: ``user_agent_extra`` of a botocore ``Config``.
    """
    words: list[str | None] = [whole]
    if whole is None:
        python = ".".join(map(str, sys.version_info[:3]))
        words = [f"smendpoint/{__version__}", f"python/{python}", f"os/{sys.platform}"]
        environment = os.environ.get("AWS_EXECUTION_ENV")
        if environment:
            words.append(f"exec-env/{check_user_agent('AWS_EXECUTION_ENV', environment)}")
        if app_id:
            words.append(f"app/{check_user_agent('the application id (sdk_ua_app_id)', app_id)}")
        words.append(check_user_agent("the session's user_agent_extra", session_extra))
    return " ".join(word for word in (*words, extra) if word)


def check_user_agent(name: str, value: object) -> str | None:
    """Return the value; refuse one that is not valid in a ``User-Agent`` header."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"{name} must be printable ASCII: it goes into the User-Agent header")
    return value
