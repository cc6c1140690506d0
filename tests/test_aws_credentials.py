"""smendpoint._aws.credentials: credentials are at hand without waiting, and one caller fetches them for all."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from smendpoint._aws.credentials import CredentialProvider
from smendpoint._core.aws.sigv4 import Credentials
from smendpoint.errors import ConfigurationError, CredentialsError, SmendpointError

HOUR = 3600.0


def key(number: int) -> Credentials:
    return Credentials(f"AKID{number}", "secret")


class Source:
    """Gives numbered credentials that live for `life` seconds, or fails."""

    def __init__(self, life: float | None = HOUR) -> None:
        self.life = life
        self.now = 1_000_000.0
        self.calls: list[bool] = []
        self.error: SmendpointError | None = None
        self.repeat = False

    def fetch(self, anew: bool) -> tuple[Credentials, float | None]:
        self.calls.append(anew)
        if self.error is not None:
            raise self.error
        number = 1 if self.repeat else len(self.calls)
        return key(number), None if self.life is None else self.now + self.life

    def provider(self) -> CredentialProvider:
        return CredentialProvider(self.fetch, now=lambda: self.now)


def test_nothing_is_at_hand_before_the_first_load() -> None:
    source = Source()
    provider = source.provider()
    assert provider.current() is None
    assert not provider.refresh_due()
    assert source.calls == []


@pytest.mark.parametrize(("life", "usable"), [(HOUR, HOUR - 60), (100.0, 90.0)])
def test_credentials_are_at_hand_until_a_minute_or_a_tenth_of_their_life_before_the_end(
    life: float, usable: float
) -> None:
    source = Source(life)
    provider = source.provider()
    assert provider.load() == key(1)
    start = source.now
    source.now = start + usable - 0.1
    assert provider.current() == key(1)
    source.now = start + usable + 0.1
    assert provider.current() is None
    assert provider.load() == key(2)
    assert source.calls == [False, False]


def test_credentials_without_an_end_are_at_hand_for_ever() -> None:
    source = Source(life=None)
    provider = source.provider()
    provider.load()
    source.now += 1e9
    assert provider.current() == key(1)
    assert not provider.refresh_due()
    assert provider.load() == key(1)
    assert source.calls == [False]


def test_initial_credentials_need_no_load() -> None:
    source = Source()
    provider = CredentialProvider(source.fetch, now=lambda: source.now, initial=key(7))
    assert provider.current() == key(7)
    assert provider.load() == key(7)
    assert source.calls == []


@pytest.mark.parametrize(("life", "due"), [(6 * HOUR, 6 * HOUR - 900), (HOUR, HOUR - 900), (400.0, 300.0)])
def test_renewal_is_due_fifteen_minutes_or_a_quarter_of_the_life_before_the_end(life: float, due: float) -> None:
    source = Source(life)
    provider = source.provider()
    provider.load()
    start = source.now
    source.now = start + due - 1
    assert not provider.refresh_due()
    assert provider.load() == key(1)
    source.now = start + due
    assert provider.refresh_due()
    assert provider.current() == key(1)
    assert provider.load() == key(2)
    assert not provider.refresh_due()


def test_one_caller_at_a_time_is_told_to_renew() -> None:
    source = Source()
    provider = source.provider()
    provider.load()
    source.now += HOUR - 800
    assert provider.refresh_due()
    assert not provider.refresh_due()
    source.now += 10  # the caller that was told has not done it
    assert provider.refresh_due()
    source.now -= 5  # a clock that is set back does not silence it for long
    assert provider.refresh_due()


def test_no_caller_is_told_to_renew_while_a_fetch_is_under_way() -> None:
    source = Source()
    told: list[bool] = []

    def fetch(anew: bool) -> tuple[Credentials, float | None]:
        if source.calls:
            told.append(provider.refresh_due())
        return source.fetch(anew)

    provider = CredentialProvider(fetch, now=lambda: source.now)
    provider.load()
    source.now += HOUR - 800
    provider.load()
    assert told == [False]


def test_expired_credentials_are_not_due_for_renewal_but_for_loading() -> None:
    source = Source()
    provider = source.provider()
    provider.load()
    source.now += HOUR
    assert not provider.refresh_due()
    assert provider.current() is None


def test_a_failed_renewal_ahead_of_time_is_not_an_error_and_is_tried_again_later() -> None:
    source = Source()
    provider = source.provider()
    provider.load()
    source.now += HOUR - 800
    source.error = CredentialsError("down")
    assert provider.load() == key(1)
    assert provider.load() == key(1)  # other callers do not ask again at once
    assert len(source.calls) == 2
    assert not provider.refresh_due()
    source.now += 200  # more than a quarter of the 740 seconds that were left
    assert provider.refresh_due()
    source.error = None
    assert provider.load() == key(3)


def test_within_a_second_of_a_failure_callers_share_it_and_those_with_good_credentials_go_on() -> None:
    source = Source()
    provider = source.provider()
    provider.load()
    source.error = CredentialsError("down")
    with pytest.raises(CredentialsError, match="down"):
        provider.load(rejected=key(1))
    assert provider.load() == key(1)
    source.now += HOUR - 10
    with pytest.raises(CredentialsError, match="down"):
        provider.load()
    calls = len(source.calls)
    with pytest.raises(CredentialsError, match="down"):
        provider.load()
    assert len(source.calls) == calls
    source.now += 1
    with pytest.raises(CredentialsError, match="down"):
        provider.load()
    assert len(source.calls) == calls + 1


def test_good_credentials_are_kept_when_another_caller_has_just_failed_to_renew_them() -> None:
    source = Source()
    provider = source.provider()
    provider.load()
    source.now += HOUR - 62  # two seconds before they are not used any more
    source.error = CredentialsError("down")
    with pytest.raises(CredentialsError):
        provider.load(rejected=key(1))
    source.now += 0.6  # renewal is due again, after a quarter of what was left
    assert provider.load() == key(1)
    assert len(source.calls) == 2


def test_each_caller_gets_an_error_of_its_own() -> None:
    source = Source()
    provider = source.provider()
    cause = ValueError("x")
    source.error = ConfigurationError("no profile")
    source.error.__cause__ = cause
    errors = []
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="no profile") as caught:
            provider.load()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert errors[0] is not source.error
    assert errors[0].__cause__ is errors[1].__cause__ is cause
    assert len(source.calls) == 1


def test_credentials_that_have_expired_on_arrival_are_an_error() -> None:
    source = Source(life=0)
    with pytest.raises(CredentialsError, match="already expired"):
        source.provider().load()


def test_rejected_credentials_make_the_source_be_asked_anew_once() -> None:
    source = Source()
    provider = source.provider()
    first = provider.load()
    assert provider.load(rejected=first) == key(2)
    assert provider.load(rejected=first) == key(2)  # another caller has renewed them since
    assert source.calls == [False, True]


def test_a_source_with_nothing_newer_is_asked_once_a_second_at_most() -> None:
    source = Source()
    source.repeat = True
    provider = source.provider()
    first = provider.load()
    for _ in range(100):
        assert provider.load(rejected=first) == first
    assert source.calls == [False, True]
    source.now += 1
    provider.load(rejected=first)
    assert source.calls == [False, True, True]


def crowd(count: int, call: Callable[[], object]) -> list[object]:
    """Call from `count` threads at the same time; return the results and errors."""
    results: list[object] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(10)
        try:
            results.append(call())
        except SmendpointError as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results


def test_a_hundred_callers_without_credentials_cause_one_fetch() -> None:
    source = Source()
    provider = source.provider()
    assert crowd(100, provider.load) == [key(1)] * 100
    assert len(source.calls) == 1


def test_a_hundred_callers_with_rejected_credentials_cause_one_renewal() -> None:
    source = Source()
    provider = source.provider()
    first = provider.load()
    assert crowd(100, lambda: provider.load(rejected=first)) == [key(2)] * 100
    assert source.calls == [False, True]


def test_a_hundred_callers_of_a_failing_source_share_its_failure() -> None:
    source = Source()
    source.error = CredentialsError("down")
    results = crowd(100, source.provider().load)
    assert {str(error) for error in results} == {"down"}
    assert len({id(error) for error in results}) == 100
    assert len(source.calls) <= 2


class Slow(Source):
    """A source that answers once `answer` is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)
        self.interrupt = False

    def fetch(self, anew: bool) -> tuple[Credentials, float | None]:
        self.asked.release()
        assert self.answer.acquire(timeout=10)
        if self.interrupt:
            self.interrupt = False
            self.calls.append(anew)
            raise KeyboardInterrupt
        return super().fetch(anew)


def background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


class Gate:
    """The lock of a provider; it tells that a caller is about to wait for it."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.reached = threading.Event()

    def __enter__(self) -> None:
        self.reached.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def follow(provider: CredentialProvider, call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Make a call in a thread, and wait until it waits for the fetch that is under way."""
    gate: Any = Gate(provider._lock)
    provider._lock = gate
    followed = background(call)
    assert gate.reached.wait(10)
    return followed


def lead_and_follow(
    source: Slow, provider: CredentialProvider, *, rejected: Credentials | None = None
) -> tuple[list[object], list[object]]:
    """Have one caller fetch and another wait for it, whose credentials may have been rejected; give what both get."""
    leader, led = background(provider.load)
    assert source.asked.acquire(timeout=10)
    follower, followed = follow(provider, lambda: provider.load(rejected=rejected))
    source.answer.release(2)
    leader.join(10)
    follower.join(10)
    return led, followed


def test_good_credentials_are_given_at_once_while_a_fetch_is_under_way() -> None:
    source = Slow()
    provider = source.provider()
    source.answer.release()
    provider.load()
    source.now += HOUR - 800
    assert source.asked.acquire(timeout=10)
    thread, results = background(provider.load)
    assert source.asked.acquire(timeout=10)
    assert provider.current() == key(1)
    other, found = background(lambda: provider.load(rejected=key(9)))
    other.join(10)
    assert found == [key(1)]
    source.answer.release()
    thread.join(10)
    assert results == [key(2)]


def test_a_caller_that_waited_for_a_failing_fetch_shares_its_failure_at_any_later_time() -> None:
    source = Slow()
    source.error = CredentialsError("down")
    clock = itertools.count(step=10)
    provider = CredentialProvider(source.fetch, now=lambda: float(next(clock)))
    led, followed = lead_and_follow(source, provider)
    assert [str(error) for error in led + followed] == ["down", "down"]
    assert source.calls == [False]


def test_when_the_fetching_caller_is_interrupted_a_waiting_one_takes_over() -> None:
    source = Slow()
    source.interrupt = True
    provider = source.provider()
    led, followed = lead_and_follow(source, provider)
    assert isinstance(led[0], KeyboardInterrupt)
    assert followed == [key(2)]


def test_a_fetch_that_began_before_the_rejection_does_not_count_if_it_brings_the_same() -> None:
    source = Slow()
    source.repeat = True
    provider = source.provider()
    _, followed = lead_and_follow(source, provider, rejected=key(1))
    assert followed == [key(1)]
    assert source.calls == [False, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_neither_waits_for_the_parents_fetch_nor_trusts_its_source() -> None:
    source = Slow()
    provider = source.provider()
    thread, _ = background(provider.load)
    assert source.asked.acquire(timeout=10)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            source.answer.release()
            status = 0 if provider.load() == key(1) and source.calls == [True] else 2
        finally:
            os._exit(status)
    source.answer.release()
    thread.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_after_a_fork_locks_are_new_and_the_source_is_asked_anew() -> None:
    source = Source()
    provider = source.provider()
    provider._lock.acquire()  # held by a thread of the parent, at the moment of the fork
    provider._pid = -1
    assert provider.load() == key(1)
    assert source.calls == [True]
    source.now += HOUR
    provider.load()
    assert source.calls == [True, False]


@pytest.mark.parametrize("life", [HOUR, None])
def test_the_source_is_asked_again_after_credentials_that_are_not_to_be_trusted(life: float | None) -> None:
    source = Source(life)
    provider = source.provider()
    assert provider.load() == key(1)
    for _ in range(2):  # the second time, there are others
        provider.distrust(key(1))
        assert provider.load() == key(2)
    assert source.calls == [False, True]
