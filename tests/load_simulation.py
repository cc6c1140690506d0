"""A simulation of clients that share an endpoint: events in a queue, a clock that jumps, chance from a seed.

A `Scenario` is data: a model of an endpoint, how long calls take, and how many clients there are. `simulate` runs it
with a real `Limit` for each client, and measures what the endpoint got done, as a share of what it could have done.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from smendpoint._core.call.limit import AdaptiveConcurrency, Limit

ENDLESS = 10**9
Times = Callable[[random.Random], float]  # draws how long a call takes that has the endpoint for itself


def constant(mean: float) -> Times:
    return lambda _: mean


def exponential(mean: float) -> Times:
    return lambda chance: chance.expovariate(1 / mean)


def heavy_tail(mean: float, sigma: float = 1.2) -> Times:
    """Give log-normal times, as the lengths of generated texts are; at most 40 times the mean."""
    middle = math.log(mean) - sigma * sigma / 2
    return lambda chance: min(chance.lognormvariate(middle, sigma), 40 * mean)


class Schedule:
    """A number that changes with time: ``Schedule(8, (10, 2))`` is 8, and 2 from second 10."""

    def __init__(self, first: float, *changes: tuple[float, float]) -> None:
        self.changes = ((0.0, first), *changes)

    def __call__(self, now: float) -> float:
        return next(value for since, value in reversed(self.changes) if now >= since)

    def integral(self, begin: float, end: float, of: Callable[[float], float] = lambda value: value) -> float:
        ends = [*(since for since, _ in self.changes[1:]), math.inf]
        parts = zip(self.changes, ends, strict=True)
        return sum(of(value) * max(0.0, min(end, until) - max(begin, since)) for (since, value), until in parts)


@dataclass(eq=False)
class Call:
    """One row's call, with all of its attempts."""

    client: Client
    number: int
    work: float  # seconds, with the endpoint for itself
    failing: bool
    started: float = 0.0  # the latest attempt
    open: bool = False  # whether the client still waits for the latest attempt
    begun: float = 0.0  # the endpoint's progress when it began to work on the call


class World:
    """The clock, the events to come, and chance."""

    def __init__(self, seed: int, round_trip: float, stray: float) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.round_trip = round_trip
        self.stray = stray
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.count = 0

    def at(self, moment: float, act: Callable[..., None], *arguments: Any) -> None:
        self.count += 1
        heapq.heappush(self.events, (max(moment, self.now), self.count, act, arguments))

    def one_way(self) -> float:
        return self.now + self.round_trip / 2 * self.chance.uniform(0.8, 1.2)

    def run(self, until: float) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, act, arguments = heapq.heappop(self.events)
            act(*arguments)
        self.now = until if self.events else self.now


class Server:
    """The model of an endpoint. A subclass says what it takes, and how fast it works.

    Args:
        ready: the second from which it is there; calls before it get ``"cold"``.
        hangs: from and to which second it takes calls and answers none.
    """

    world: World

    def __init__(self, *, ready: float = 0.0, hangs: tuple[float, float] = (0.0, 0.0)) -> None:
        self.ready, self.hangs = ready, hangs
        self.measured_from = self.done = 0.0  # the work that was of use since the measurement began

    def ideal(self, begin: float, end: float, mean: float, round_trip: float) -> float:
        """Give the most work that can be done meanwhile."""
        raise NotImplementedError

    def progress(self) -> float:
        """Give the seconds of work that each running call has got since the start."""
        return self.world.now

    def begin_measuring(self) -> None:
        self.measured_from = self.progress()
        self.done = 0.0

    def arrive(self, call: Call) -> None:
        now = self.world.now
        if now < self.ready:
            self.answer(call, "cold")
        elif not self.hangs[0] <= now < self.hangs[1]:
            stray = self.world.chance.random() < self.world.stray
            if stray or not self.take(call):
                self.answer(call, "refused")

    def take(self, call: Call) -> bool:
        """Begin or queue the call; `False` refuses it."""
        raise NotImplementedError

    def answer(self, call: Call, outcome: str) -> None:
        self.world.at(self.world.one_way(), call.client.hear, call, call.started, outcome)

    def finish(self, call: Call) -> None:
        """Answer the call, and count its work unless its client is gone."""
        self.count(call)
        self.answer(call, "failed" if call.failing else "ok")

    def count(self, call: Call) -> None:
        if call.open:
            self.done += max(0.0, self.progress() - max(call.begun, self.measured_from))

    def running(self) -> Sequence[Call]:
        return ()


class Workers(Server):
    """Workers that serve one call each. A full server queues so many calls more, and refuses the rest.

    Args:
        capacity: workers in all.
        queue: calls that wait for them.
        replicas: containers that share the workers evenly, behind a load balancer that picks one at random.
        release: seconds for which a worker stays taken after its answer.
    """

    def __init__(
        self,
        capacity: float | Schedule,
        queue: float = 0,
        *,
        replicas: int = 1,
        release: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.capacity = capacity if isinstance(capacity, Schedule) else Schedule(capacity)
        self.queue, self.release, self.replicas = queue, release, replicas
        self.taken = [0] * replicas
        self.at_work: dict[Call, None] = {}  # in order, so that a seed gives the same again
        self.waiting: list[deque[Call]] = [deque() for _ in range(replicas)]

    def ideal(self, begin: float, end: float, mean: float, round_trip: float) -> float:
        return self.capacity.integral(max(begin, self.ready), end) * mean / (mean + round_trip + self.release)

    def take(self, call: Call) -> bool:
        replica = self.world.chance.randrange(self.replicas)
        if self.free(replica):
            self.begin(call, replica)
        elif len(self.waiting[replica]) < self.queue:
            self.waiting[replica].append(call)
        else:
            return False
        return True

    def free(self, replica: int) -> bool:
        return self.taken[replica] < self.capacity(self.world.now) / self.replicas

    def begin(self, call: Call, replica: int) -> None:
        self.taken[replica] += 1
        self.at_work[call] = None
        call.begun = self.world.now
        self.world.at(self.world.now + call.work, self.end, call, replica)

    def end(self, call: Call, replica: int) -> None:
        del self.at_work[call]
        self.finish(call)
        if self.release:
            self.world.at(self.world.now + self.release, self.free_worker, replica)
        else:
            self.free_worker(replica)

    def free_worker(self, replica: int) -> None:
        self.taken[replica] -= 1
        while self.waiting[replica] and self.free(replica):
            self.begin(self.waiting[replica].popleft(), replica)

    def running(self) -> Sequence[Call]:
        return tuple(self.at_work)


class Accelerator(Server):
    """Calls in one batch share an accelerator: `n` of them run at ``1 / (1 + n / half)`` of the speed of one alone.

    Args:
        batch: calls that run at once.
        half: the number of calls at which each has half the speed.
        queue: calls that wait; the rest is refused.
    """

    def __init__(self, batch: float | Schedule, half: float, queue: float = math.inf, **options: Any) -> None:
        super().__init__(**options)
        self.batch = batch if isinstance(batch, Schedule) else Schedule(batch)
        self.half, self.queue = half, queue
        self.given = 0.0  # progress until `since`
        self.since = 0.0
        self.at_work: list[tuple[float, int, Call]] = []  # the progress at which each is done
        self.waiting: deque[Call] = deque()
        self.plan = 0

    def speed(self, calls: float) -> float:
        return 1 / (1 + calls / self.half)

    def ideal(self, begin: float, end: float, mean: float, round_trip: float) -> float:
        work = self.batch.integral(max(begin, self.ready), end, lambda batch: batch * self.speed(batch))
        return work * mean / (mean + round_trip)

    def progress(self) -> float:
        return self.given + (self.world.now - self.since) * self.speed(len(self.at_work))

    def take(self, call: Call) -> bool:
        if len(self.at_work) < self.batch(self.world.now):
            self.change(call)
        elif len(self.waiting) < self.queue:
            self.waiting.append(call)
        else:
            return False
        return True

    def change(self, *begin: Call) -> None:
        """Let calls begin, and plan the next end at the speed that all have then."""
        self.given, self.since = self.progress(), self.world.now
        for call in begin:
            call.begun = self.given
            heapq.heappush(self.at_work, (self.given + call.work, call.number, call))
        self.plan += 1
        if self.at_work:
            left = max(0.0, self.at_work[0][0] - self.given)
            self.world.at(self.world.now + left / self.speed(len(self.at_work)), self.end, self.plan)

    def end(self, plan: int) -> None:
        if plan == self.plan:
            self.given, self.since = self.progress(), self.world.now
            while self.at_work and self.at_work[0][0] <= self.given + 1e-9:
                self.finish(heapq.heappop(self.at_work)[2])
            room = max(0, math.ceil(self.batch(self.world.now) - len(self.at_work)))
            self.change(*[self.waiting.popleft() for _ in range(min(room, len(self.waiting)))])

    def running(self) -> Sequence[Call]:
        return [call for _, _, call in self.at_work]


class TokenBucket(Server):
    """An account's rate: so many calls a second, and a burst; those that it takes run without a limit."""

    def __init__(self, rate: float, burst: float) -> None:
        super().__init__()
        self.rate, self.burst = rate, burst
        self.tokens, self.since = burst, 0.0

    def ideal(self, begin: float, end: float, mean: float, round_trip: float) -> float:
        return self.rate * (end - begin)

    def take(self, call: Call) -> bool:
        self.tokens = min(self.burst, self.tokens + self.rate * (self.world.now - self.since))
        self.since = self.world.now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        self.done += 1
        self.world.at(self.world.now + call.work, self.answer, call, "failed" if call.failing else "ok")
        return True


class Client:
    """One process: calls that wait, and a `Limit` that says when the next may start.

    A refused call goes again once its delay is over, or as soon as a success has freed a slot; the oldest goes first.
    """

    def __init__(self, world: World, server: Server, scenario: Scenario, limit: Limit, jobs: int) -> None:
        self.world, self.server, self.scenario, self.limit, self.jobs = world, server, scenario, limit, jobs
        self.refused: list[tuple[int, float, Call]] = []  # number, when it may go again
        self.made = self.in_flight = self.refusals = self.lost = 0
        self.successes: list[float] = []
        self.waits: list[float] = []
        self.done: list[float] = []  # the work of each success
        self.peak = 0
        self.wakes = math.inf

    def next_call(self, at_once: bool) -> Call | None:
        ready = [entry for entry in self.refused if at_once or entry[1] <= self.world.now]
        if ready:
            oldest = min(ready, key=lambda entry: entry[0])
            self.refused.remove(oldest)
            return oldest[2]
        if self.made == self.jobs:
            return None
        self.made += 1
        chance, failing = self.world.chance, self.world.chance.random() < self.scenario.failing
        work = self.scenario.times(chance) * (chance.random() if failing else 1)
        return Call(self, self.made, work, failing)

    def has_work(self, at_once: bool) -> bool:
        now = self.world.now
        return self.made < self.jobs or any(at_once or moment <= now for _, moment, _ in self.refused)

    def start_calls(self, at_once: bool = False) -> None:
        while self.has_work(at_once) and self.limit.try_start(self.world.now):
            call = self.next_call(at_once)
            assert call is not None
            at_once = False
            call.started, call.open = self.world.now, True
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            self.world.at(self.world.one_way(), self.server.arrive, call)
            if self.scenario.patience < math.inf:
                self.world.at(self.world.now + self.scenario.patience, self.hear, call, call.started, "slow")
        self.plan_wake()

    def plan_wake(self) -> None:
        moments = [moment for _, moment, _ in self.refused if moment > self.world.now]
        woken = self.limit.wake(self.world.now)
        if woken is not None and (self.refused or self.made < self.jobs):
            moments.append(woken)
        wakes = min(moments, default=math.inf)
        if wakes < self.wakes or self.wakes <= self.world.now:
            self.wakes = wakes
            if wakes < math.inf:
                self.world.at(wakes, self.wake)

    def wake(self) -> None:
        if self.wakes <= self.world.now:
            self.wakes = math.inf
            self.start_calls()

    def hear(self, call: Call, started: float, outcome: Any) -> None:
        if not call.open or call.started != started:
            return  # it was given up
        now = self.world.now
        call.open = False
        self.in_flight -= 1
        self.limit.finished(outcome, started, now)
        if outcome in ("refused", "cold"):
            self.refusals += 1
            self.refused.append((call.number, now + self.limit.refusal_delay(), call))
        elif outcome == "ok":
            self.successes.append(now)
            self.done.append(call.work)
        else:
            self.lost += 1
        self.start_calls(at_once=outcome == "ok")


@dataclass(frozen=True)
class Scenario:
    """One case, and the results that it must have.

    Attributes:
        server: makes the model of the endpoint.
        times: draws how long a call takes alone; `mean` seconds on average.
        round_trip: of the network, in seconds.
        seconds: how long it runs.
        warm_up: seconds at first that are not measured.
        late: seconds between the arrivals of two clients.
        failing: the share of calls that fail, for reasons other than load.
        stray: the share of calls that are refused by chance.
        patience: seconds after which a client gives a call up.
        jobs: calls in all, instead of as many as fit.
        goodput: the least share of the ideal that any run may have.
        fairness: the most successes of one client for each of another.
        refusals: the most refusals for each success.
    """

    name: str
    server: Callable[[], Server]
    times: Times
    mean: float
    round_trip: float
    seconds: float
    warm_up: float
    clients: int = 1
    initials: tuple[int, ...] = (1, 4, 64)
    late: float = 0.0
    failing: float = 0.0
    stray: float = 0.0
    patience: float = math.inf
    jobs: int = ENDLESS
    goodput: float = 0.9
    fairness: float = 3.0
    refusals: float = 0.5


@dataclass
class Result:
    """The results of one run."""

    goodput: float  # share of the ideal
    fairness: float
    refusals: float  # for each success
    successes: int
    events: int
    clients: list[Client] = field(repr=False)


def simulate(
    scenario: Scenario, initial: int, seed: int, make_limit: Callable[..., Limit] = Limit, maximum: int = 1000
) -> Result:
    """Run the scenario once."""
    world = World(seed, scenario.round_trip, scenario.stray)
    server = scenario.server()
    server.world = world
    clients = []
    for index in range(scenario.clients):
        limit = make_limit(AdaptiveConcurrency(initial, 1, maximum), random.Random(1000 * seed + index).random)
        clients.append(Client(world, server, scenario, limit, scenario.jobs // scenario.clients))
        world.at(index * (scenario.late + 1e-6), clients[-1].start_calls)
    world.at(scenario.warm_up, server.begin_measuring)
    world.run(scenario.seconds)
    if scenario.jobs < ENDLESS:
        goodput = makespan(clients, server.ideal(0, 1, scenario.mean, 0))
    else:
        for call in server.running():
            server.count(call)
        ideal = server.ideal(scenario.warm_up, scenario.seconds, scenario.mean, scenario.round_trip)
        goodput = server.done / ideal
    fair_from = max(scenario.warm_up, scenario.late * (scenario.clients - 1))
    shares = [sum(moment >= fair_from for moment in client.successes) for client in clients]
    successes = sum(len(client.successes) for client in clients)
    refusals = sum(client.refusals for client in clients) / max(1, successes)
    return Result(goodput, max(shares) / max(1, min(shares)), refusals, successes, world.count, clients)


def makespan(clients: Sequence[Client], capacity: float) -> float:
    """Give the shortest time that any order of the jobs could take, as a share of the time that they took."""
    works = [work for client in clients for work in client.done]
    took = max(moment for client in clients for moment in client.successes)
    return max(sum(works) / capacity, max(works)) / took


FIFO = math.inf

# The scenarios of containers that refuse.
REFUSING = [
    Scenario("1 worker, 50 ms", lambda: Workers(1), constant(0.05), 0.05, 0.002, 20, 1),
    Scenario("2 workers, 1 s", lambda: Workers(2), exponential(1), 1, 0.01, 120, 3, refusals=1),
    Scenario("8 workers, 5 ms", lambda: Workers(8), constant(0.005), 0.005, 0.0005, 6, 1),
    Scenario("8 workers, 50 ms", lambda: Workers(8), exponential(0.05), 0.05, 0.002, 20, 1),
    Scenario("8 workers, 1 s, heavy tail", lambda: Workers(8), heavy_tail(1), 1, 0.01, 90, 2),
    Scenario("64 workers, 1 s", lambda: Workers(64), exponential(1), 1, 0.01, 40, 3),
    Scenario("500 workers, 100 ms", lambda: Workers(500), exponential(0.1), 0.1, 0.005, 8, 2),
    Scenario("64 workers, 60 s, constant", lambda: Workers(64), constant(60), 60, 0.02, 600, 10),
    Scenario("64 workers, 60 s, heavy tail", lambda: Workers(64), heavy_tail(60), 60, 0.02, 600, 10),
    Scenario("500 workers, 60 s, heavy tail", lambda: Workers(500), heavy_tail(60), 60, 0.02, 600, 60),
    Scenario("5 % fail", lambda: Workers(16), exponential(0.1), 0.1, 0.004, 20, 1, failing=0.05),
    Scenario("2 % stray refusals", lambda: Workers(16), exponential(0.1), 0.1, 0.004, 20, 1, stray=0.02),
    Scenario("8 workers and a queue of 8", lambda: Workers(8, 8), exponential(0.2), 0.2, 0.005, 40, 2),
    Scenario("batch of 32 and a queue of 32", lambda: Accelerator(32, 64, 32), heavy_tail(0.5), 0.5, 0.005, 60, 4),
    Scenario(
        "4 containers of 8 at random", lambda: Workers(32, replicas=4), exponential(0.2), 0.2, 0.005, 30, 2, goodput=0.5
    ),
]
CHANGING = [
    Scenario(
        "8, 2, 16 workers, 50 ms",
        lambda: Workers(Schedule(8, (7, 2), (14, 16))),
        exponential(0.05),
        *(0.05, 0.002, 21, 1),
    ),
    Scenario(
        "8, 2, 16 workers, 1 s",
        lambda: Workers(Schedule(8, (40, 2), (80, 16))),
        heavy_tail(1),
        *(1, 0.01, 120, 3),
    ),
    Scenario(
        "50, 5, 50 workers, 50 ms",
        lambda: Workers(Schedule(50, (7, 5), (14, 50))),
        exponential(0.05),
        *(0.05, 0.002, 21, 1),
    ),
    Scenario(
        "50, 5, 50 workers, 1 s",
        lambda: Workers(Schedule(50, (30, 5), (60, 50))),
        constant(1),
        *(1, 0.01, 90, 3),
    ),
    Scenario(
        "batch of 50, 5, 50",
        lambda: Accelerator(Schedule(50, (12, 5), (24, 50)), 200),
        exponential(0.2),
        *(0.2, 0.005, 36, 2),
        goodput=0.6,
    ),
]
QUEUEING = [
    Scenario("8 workers that queue", lambda: Workers(8, FIFO), exponential(0.2), 0.2, 0.005, 60, 2),
    Scenario("32 workers that queue", lambda: Workers(32, FIFO), heavy_tail(2), 2, 0.01, 120, 6, goodput=0.75),
    Scenario("batch of 64", lambda: Accelerator(64, 32), heavy_tail(1), 1, 0.01, 120, 8, goodput=0.8),
    Scenario("batch of 16", lambda: Accelerator(16, 64), exponential(0.1), 0.1, 0.004, 30, 2),
    Scenario("batch of 256", lambda: Accelerator(256, 128), heavy_tail(5), 5, 0.02, 300, 60, goodput=0.7),
]
THROTTLED = [
    Scenario("10 calls/s of 5 ms", lambda: TokenBucket(10, 10), constant(0.005), 0.005, 0.002, 30, 2, refusals=4),
    Scenario("100 calls/s of 500 ms", lambda: TokenBucket(100, 20), exponential(0.5), 0.5, 0.005, 20, 2),
    Scenario("5 calls/s of 20 s", lambda: TokenBucket(5, 5), heavy_tail(20), 20, 0.02, 300, 20, goodput=0.5),
]
SHARED = [
    Scenario("2 clients, 8 workers", lambda: Workers(8), exponential(0.05), 0.05, 0.002, 60, 1, 2),
    Scenario("8 clients, 8 workers", lambda: Workers(8), exponential(0.05), 0.05, 0.002, 60, 1, 8, (1, 4), fairness=4),
    Scenario("8 clients, 64 workers", lambda: Workers(64), exponential(0.2), 0.2, 0.005, 60, 3, 8),
    Scenario("4 clients, 16 workers, 1 s", lambda: Workers(16), constant(1), 1, 0.01, 300, 5, 4),
    Scenario("3 that join late", lambda: Workers(50), exponential(0.1), 0.1, 0.004, 60, 2, 3, (4,), late=10),
    Scenario(
        "4 clients that join a batch late",
        lambda: Accelerator(32, 64),
        heavy_tail(0.5),
        *(0.5, 0.005, 120, 8, 4, (4,)),
        late=5,
        fairness=12,
    ),
    Scenario(
        "4 clients, a batch", lambda: Accelerator(32, 64), heavy_tail(0.5), 0.5, 0.005, 120, 8, 4, (4,), fairness=12
    ),
    Scenario(
        "4 clients, 20 calls/s", lambda: TokenBucket(20, 20), exponential(0.1), 0.1, 0.004, 60, 3, 4, (4,), refusals=2
    ),
]
SHORT = [
    Scenario("200 calls of 50 ms", lambda: Workers(16), exponential(0.05), 0.05, 0.002, 60, 0, jobs=200, goodput=0.6),
    Scenario("200 calls of 2 s", lambda: Workers(16), heavy_tail(2), 2, 0.01, 600, 0, jobs=200, goodput=0.5),
]
COMPARED = [*REFUSING, *CHANGING, *QUEUEING, *THROTTLED, *SHARED]  # with the figures of the decision record

# Endpoints that are not ready, and that hang. Their figures are not compared: the study has none.
FAULTY = [
    Scenario("a cold start of 60 s", lambda: Workers(8, ready=60), exponential(0.2), 0.2, 0.005, 120, 0, goodput=0.8),
    Scenario(
        "a cold start of 60 s, 4 clients",
        lambda: Workers(8, ready=60),
        exponential(0.2),
        *(0.2, 0.005, 120, 0, 4),
        goodput=0.8,
        fairness=4,
    ),
    Scenario("hangs for 20 s", lambda: Workers(16, hangs=(20, 40)), exponential(0.1), 0.1, 0.004, 120, 45, patience=10),
    Scenario(
        "a queue that is longer than the patience",
        lambda: Workers(8, FIFO),
        exponential(1),
        *(1, 0.01, 240, 60),
        patience=6,
        goodput=0.5,
    ),
]
