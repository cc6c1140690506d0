"""Credentials that are at hand without waiting, renewed before they expire, fetched by one caller for all."""

from __future__ import annotations

import os
from _thread import allocate_lock  # for a quick cold start: see `_core`
from typing import TYPE_CHECKING

from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import CredentialsError, SmendpointError, copy_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    #: Asks the source. The argument says whether the source must be read anew, even if its credentials look valid.
    #: Returns the credentials and the time of their end: seconds since the epoch, ``None`` for never. Raises only our
    #: errors.
    Fetch: TypeAlias = Callable[[bool], tuple[Credentials, float | None]]

__all__ = ["EXPIRED", "CredentialProvider"]

EXPIRED = (
    "the credentials that were found have expired already: renew them at their source (for instance with "
    "`aws sso login`), and check this machine's clock"
)

_NEVER = float("inf")
# botocore and the other SDKs start to renew 15 minutes ahead; short-lived credentials are renewed in the last quarter
# of their life.
_ADVISORY_SECONDS = 900.0
_ADVISORY_SHARE = 0.25
# The last minute is not used, because clocks differ; of a short life, the last tenth.
_LAST_SECONDS = 60.0
_LAST_SHARE = 0.1
# How long callers share a failure, or the knowledge that the source has nothing newer.
_MEMORY_SECONDS = 1.0
# How long one caller may take to renew in the background before another is asked to.
_CLAIM_SECONDS = 10.0


class _State:
    """The credentials at hand; replaced as a whole, so that they can be read without a lock."""

    __slots__ = ("credentials", "renew_from", "usable_until")

    def __init__(self, credentials: Credentials | None, usable_until: float, renew_from: float) -> None:
        self.credentials = credentials
        self.usable_until = usable_until
        self.renew_from = renew_from


class _Fetching:
    """One fetch. Other callers wait for its end by acquiring `pending`; then it has credentials or an error."""

    __slots__ = ("credentials", "ended", "error", "forced", "pending", "unchanged")

    def __init__(self, forced: bool) -> None:
        self.forced = forced
        self.pending = allocate_lock()
        self.pending.acquire()
        self.credentials: Credentials | None = None
        self.error: SmendpointError | None = None
        self.ended = -_NEVER
        self.unchanged = False  # the source was read anew and has the same credentials still


class CredentialProvider:
    """Holds the credentials of one identity; safe to share between threads, and survives a fork.

    Args:
        fetch: asks the source; called by one thread at a time.
        now: the time as seconds since the epoch.
        initial: credentials that are at hand already and do not expire.
        origin: where they come from, in the words of a setting; empty where `fetch` has an attribute of that name.
    """

    __slots__ = ("_claimed", "_fetch", "_fetching", "_last", "_lock", "_now", "_origin", "_pid", "_stale", "_state")

    def __init__(
        self, fetch: Fetch, *, now: Callable[[], float], initial: Credentials | None = None, origin: str = ""
    ) -> None:
        self._fetch = fetch
        self._origin = origin
        self._now = now
        self._state = _State(initial, 0.0 if initial is None else _NEVER, _NEVER)
        self._lock = allocate_lock()
        self._pid = os.getpid()
        self._fetching: _Fetching | None = None
        self._last = _Fetching(False)  # the fetch that ended last; this one never began
        self._stale = False
        self._claimed = -_NEVER

    @classmethod
    def of_explicit(cls, given: Credentials, now: Callable[[], float]) -> CredentialProvider:
        """Make the provider of explicit credentials: there are no others, and they do not expire."""
        return cls(lambda anew: (given, None), now=now, initial=given, origin="aws_access_key_id")

    @property
    def origin(self) -> str:
        """Where the credentials come from, to be shown."""
        return self._origin or getattr(self._fetch, "origin", "")

    def current(self) -> Credentials | None:
        """Return the credentials to sign with now, without waiting; ``None`` where ``load`` must fetch some."""
        state = self._state
        if state.usable_until == _NEVER or self._now() < state.usable_until:
            return state.credentials
        return None

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
            or self._fetching is not None
            or 0 <= now - self._claimed < _CLAIM_SECONDS
        ):
            return False
        self._claimed = now
        return True

    def load(self, *, rejected: Credentials | None = None) -> Credentials:
        """Return credentials; block while the source is asked, where it must be.

        Of several callers at a time, one asks the source; the others wait and share its outcome, a failure too. The
        callers of the next second share a failure as well. While the credentials at hand are still valid, a failure to
        renew them is not an error.

        Args:
            rejected: credentials that the service did not accept although they looked valid. The source is asked
                anew, unless that has been done since.

        Returns:
            Credentials. They equal ``rejected`` where the source has no others.

        Raises:
            CredentialsError: the source has none, or failed.
        """
        if os.getpid() != self._pid:
            self._start_afresh()
        while True:
            ours = _Fetching(rejected is not None or self._stale)
            try:
                with self._lock:
                    at_hand = self._at_hand(rejected)
                    if at_hand is not None:
                        return at_hand
                    fetching = self._fetching
                    if fetching is None:
                        fetching = self._fetching = ours
                if fetching is ours:
                    self._run(fetching)
            finally:  # after an interrupt too: the others must not wait for ever
                if self._fetching is ours:
                    self._fetching = None
                ours.pending.release()
            with fetching.pending:
                pass
            if fetching.error is not None:
                kept = self.current() if rejected is None else None
                if kept is not None:
                    return kept
                raise copy_error(fetching.error)
            if fetching.credentials is None:
                continue  # the caller that fetched was interrupted, by Ctrl-C for instance
            if rejected is not None and not fetching.forced and fetching.credentials == rejected:
                continue  # that fetch had begun before the service rejected them
            return fetching.credentials

    def _at_hand(self, rejected: Credentials | None) -> Credentials | None:
        """Return the credentials that need no fetch, if any. The caller holds the lock."""
        now, last, current = self._now(), self._last, self.current()
        remembered = 0 <= now - last.ended < _MEMORY_SECONDS
        failure = last.error if remembered else None
        if current is not None:
            if rejected is None:
                if now < self._state.renew_from or failure is not None:
                    return current
            elif current != rejected or (remembered and last.unchanged):
                return current
        if failure is not None:
            raise copy_error(failure)
        return None

    def _run(self, fetching: _Fetching) -> None:
        state: _State | None = None
        try:
            credentials, expires = self._fetch(fetching.forced)
            state = _judge(credentials, expires, self._now())
            fetching.credentials = credentials
        except SmendpointError as error:
            fetching.error = error
        finally:
            with self._lock:
                self._store(fetching, state)

    def _store(self, fetching: _Fetching, state: _State | None) -> None:
        now, previous = self._now(), self._state
        if state is not None:
            fetching.unchanged = fetching.forced and state.credentials == previous.credentials
            self._state = state
            self._stale = False
            self._claimed = -_NEVER
        elif fetching.error is not None and now < previous.usable_until < _NEVER:
            # Still valid: try again after a quarter of what is left.
            later = now + (previous.usable_until - now) * _ADVISORY_SHARE
            self._state = _State(previous.credentials, previous.usable_until, later)
        fetching.ended = now
        self._last = fetching
        self._fetching = None

    def _start_afresh(self) -> None:
        """Reset in a forked child: threads that do not exist here may have held the lock, or have been fetching."""
        self._lock = allocate_lock()
        self._fetching = None
        self._stale = True
        self._pid = os.getpid()


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
