"""Credentials that are available without waiting, renewed before they expire, and fetched by one caller for all."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from typing import TYPE_CHECKING

from smendpoint._core.aws.sigv4 import Credentials
from smendpoint._core.error_copies import copy_error
from smendpoint.errors import CredentialsError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: Asks the source. The argument says whether the source must be read again, even if its credentials look valid.
    #: Returns the credentials and their expiry: seconds since the epoch, ``None`` for never. Raises only our
    #: errors.
    Fetch: TypeAlias = Callable[[bool], tuple[Credentials, float | None]]

__all__ = ["EXPIRED", "CredentialProvider"]

EXPIRED = (
    "the credentials that were found have already expired: renew them at their source (for instance with "
    "`aws sso login`), and check this machine's clock"
)

_NEVER = float("inf")
# botocore and the other SDKs start to renew 15 minutes before the expiry; short-lived credentials are renewed in the
# last quarter of their lifetime.
_ADVISORY_SECONDS = 900.0
_ADVISORY_SHARE = 0.25
# The last minute is not used, because clocks differ; of a short lifetime, the last tenth.
_LAST_SECONDS = 60.0
_LAST_SHARE = 0.1
# How long callers share a failure, or the knowledge that the source has nothing newer.
_MEMORY_SECONDS = 1.0
# How long one caller may take to renew in the background before another is asked to.
_CLAIM_SECONDS = 10.0


class _State:
    """The current credentials; replaced as a whole, so that they can be read without a lock."""

    __slots__ = ("credentials", "renew_from", "usable_until")

    def __init__(self, credentials: Credentials | None, usable_until: float, renew_from: float) -> None:
        self.credentials = credentials
        self.usable_until = usable_until
        self.renew_from = renew_from


class _Outcome:
    """The outcome of a fetch, without the credentials themselves."""

    __slots__ = ("ended", "error", "unchanged")

    def __init__(self, ended: float, error: SmendpointError | None = None, *, unchanged: bool = False) -> None:
        self.ended = ended
        self.error = error
        self.unchanged = unchanged  # the source was read again, and still has the credentials that the service rejected


class CredentialProvider:
    """Holds the credentials of one identity; safe to share between threads, and survives a fork.

    Args:
        fetch: asks the source; called by one thread at a time.
        now: the time as seconds since the epoch.
        initial: credentials that are already known and do not expire.
        origin: their source, as the name of a setting; empty if `fetch` has an attribute of that name.
    """

    __slots__ = ("_claimed", "_fetch", "_last", "_lock", "_now", "_origin", "_pid", "_stale", "_state")

    def __init__(
        self, fetch: Fetch, *, now: Callable[[], float], initial: Credentials | None = None, origin: str = ""
    ) -> None:
        self._fetch = fetch
        self._origin = origin
        self._now = now
        self._state = _State(initial, 0.0 if initial is None else _NEVER, _NEVER)
        self._lock = allocate_lock()  # held by the caller that asks the source
        self._pid = os.getpid()
        self._last = _Outcome(-_NEVER)
        self._stale = False
        self._claimed = -_NEVER

    @classmethod
    def of_explicit(cls, given: Credentials, now: Callable[[], float]) -> CredentialProvider:
        """Make the provider of explicit credentials: there are no others, and they do not expire."""
        return cls(lambda anew: (given, None), now=now, initial=given, origin="aws_access_key_id")

    @property
    def origin(self) -> str:
        """The source of the credentials, for messages."""
        return self._origin or getattr(self._fetch, "origin", "")

    @property
    def account(self) -> str | None:
        """The account that the source of the credentials named, for messages; `None` if it named none."""
        return getattr(self._fetch, "account", None)

    def current(self) -> Credentials | None:
        """Return the credentials to sign with now, without waiting; ``None`` if ``load`` must fetch some."""
        state = self._state
        if state.usable_until == _NEVER or self._now() < state.usable_until:
            return state.credentials
        return None

    def distrust(self, rejected: Credentials) -> None:
        """Have the next caller ask the source: the service did not accept these credentials although they look valid.

        Does nothing if there are others by now.
        """
        if self._state.credentials == rejected:
            self._stale, self._state = True, _State(None, 0.0, _NEVER)

    def refresh_due(self) -> bool:
        """Whether ``load`` should now be called in the background.

        The credentials are still valid but will soon expire. Only one caller in ten seconds gets ``True``, so that a
        busy endpoint does not start many renewals.
        """
        state = self._state
        if state.renew_from == _NEVER:
            return False
        now = self._now()
        if (
            not state.renew_from <= now < state.usable_until
            or self._lock.locked()
            or 0 <= now - self._claimed < _CLAIM_SECONDS
        ):
            return False
        self._claimed = now
        return True

    def load(self, *, rejected: Credentials | None = None) -> Credentials:
        """Return credentials; block while the source is asked, if necessary.

        Of several callers at a time, one asks the source; the others wait and share its outcome, even a failure. The
        callers of the next second also share a failure. While the current credentials are still valid, a failure to
        renew them is not an error.

        Args:
            rejected: credentials that the service did not accept although they looked valid. The source is asked
                again, unless that has been done since.

        Returns:
            Credentials. They equal ``rejected`` if the source has no others.

        Raises:
            CredentialsError: the source has none, or failed.
        """
        if os.getpid() != self._pid:
            # A forked child: threads that do not exist here may have held the lock, and the source must be read again.
            self._lock, self._stale, self._pid = allocate_lock(), True, os.getpid()
        before = self._last
        at_hand = self._at_hand(rejected, before)
        if at_hand is None:
            with self._lock:
                at_hand = self._at_hand(rejected, before) or self._renew(rejected)
        return at_hand

    def _at_hand(self, rejected: Credentials | None, before: _Outcome) -> Credentials | None:
        """Return the credentials that need no fetch, if any; raise the error of a fetch that counts for this caller.

        A fetch counts if it ended less than a second ago, or since the caller saw the outcome `before`.
        """
        now, last, current = self._now(), self._last, self.current()
        counts = last is not before or 0 <= now - last.ended < _MEMORY_SECONDS
        if current is not None:
            if rejected is None:
                if now < self._state.renew_from or (counts and last.error is not None):
                    return current
            elif current != rejected or (counts and last.unchanged):
                return current
        if counts and last.error is not None:
            raise copy_error(last.error)
        return None

    def _renew(self, rejected: Credentials | None) -> Credentials:
        """Ask the source. The caller holds the lock."""
        state = self._state
        try:
            credentials, expires = self._fetch(rejected is not None or self._stale)
            self._state = _judge(credentials, expires, self._now())
        except SmendpointError as error:
            failure = copy_error(error)
        else:
            self._last = _Outcome(self._now(), unchanged=credentials == rejected)
            self._stale = False
            return credentials
        now = self._now()
        self._last = _Outcome(now, failure)
        if now < state.usable_until < _NEVER:
            # Still valid: try again after a quarter of what is left.
            later = now + (state.usable_until - now) * _ADVISORY_SHARE
            self._state = _State(state.credentials, state.usable_until, later)
        kept = self.current() if rejected is None else None
        if kept is None:
            raise copy_error(failure)
        return kept


def _judge(credentials: Credentials, expires: float | None, now: float) -> _State:
    if expires is None:
        return _State(credentials, _NEVER, _NEVER)
    left = expires - now
    if left <= 0:
        raise CredentialsError(EXPIRED)
    return _State(
        credentials,
        expires - min(_LAST_SECONDS, left * _LAST_SHARE),
        expires - min(_ADVISORY_SECONDS, left * _ADVISORY_SHARE),
    )
