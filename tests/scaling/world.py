"""A service under load, without a cluster: what its pods would say, and the decisions one after another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from modelops.api.scaling import LoadMetric, Scaling
from modelops.engines import by_name
from modelops.scaling.decide import Decision, Room, Seen, decide
from modelops.scaling.load import CACHE, RUNNING, WAITING, Load, Observed, Point
from modelops.scaling.memory import Memory
from modelops.scaling.rules import Engine, Rules, rules

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
STEP = timedelta(seconds=15)
LONG_AGO = NOW - timedelta(hours=1)


def engine(name: str = "vLLM", concurrency: int | None = 256) -> Engine:
    found = by_name(name)
    return Engine(found.name, found.queries, concurrency)


def in_force(wire: Mapping, name: str = "vLLM", concurrency: int | None = 256) -> Rules:
    found = rules("chat", Scaling.model_validate(wire), engine(name, concurrency))
    assert isinstance(found, Rules), found
    return found


CACHED = Load(LoadMetric.KV_CACHE_USE, 70, frozenset({CACHE}))
QUEUED = Load(LoadMetric.QUEUED_REQUESTS, 5, frozenset({RUNNING, WAITING}))


def point(at: datetime, *pods: Mapping[str, float] | None) -> Point:
    """Return what pods p0, p1, ... say; None: no sample."""
    return Point(at, {f"p{i}": dict(values) for i, values in enumerate(pods) if values is not None})


def steady(*pods: Mapping[str, float] | None, until: datetime = NOW, points: int = 25) -> Observed:
    """Return six minutes in which the pods always said the same."""
    return Observed(tuple(point(until - STEP * (points - 1 - i), *pods) for i in range(points)), STEP)


def seen(observed: Observed | None, ready: int, **more) -> Seen:
    return Seen("chat", {f"p{i}": LONG_AGO for i in range(ready)}, observed=observed, **more)


def no_end(current: int, wanted: int) -> Room:
    return Room(wanted)


def room_for(pods: int, lacking: str = "a GPU") -> Callable[[int, int], Room]:
    return lambda current, wanted: Room(max(current, min(wanted, pods)), lacking)


def at(replicas: int, **more) -> Memory:
    return Memory(replicas, "Started", "chat: started", LONG_AGO, **more)


@dataclass
class Service:
    """A service whose pods share a load; a new pod is ready after *start*."""

    rules: Rules
    load: Callable[[float], Mapping[str, float]]
    """By minutes since the beginning: the sum over all pods of each signal."""
    start: timedelta = timedelta(minutes=2)
    memory: Memory = field(default_factory=Memory)
    now: datetime = NOW
    pods: dict[str, datetime] = field(default_factory=dict)
    """Pods by name, and when each is ready."""
    points: list[Point] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    room: Callable[[int, int], Room] = no_end
    count: int = 0

    def run(self, minutes: float) -> "Service":
        for _ in range(int(minutes * 60 / STEP.total_seconds())):
            self.now += STEP
            self._say()
            self._look()
        return self

    def _say(self) -> None:
        ready = [name for name, since in self.pods.items() if since <= self.now]
        whole = self.load((self.now - NOW).total_seconds() / 60)
        shares = {name: {signal: value / len(ready) for signal, value in whole.items()} for name in ready}
        self.points = [*self.points, Point(self.now, shares)][-300:]

    def _look(self) -> None:
        ready = {name: since for name, since in self.pods.items() if since <= self.now}
        looked = Seen("chat", ready, len(self.pods), Observed(tuple(self.points), STEP))
        decision = decide(looked, self.rules, self.memory, self.now, self.room)
        again = decide(looked, self.rules, decision.memory, self.now, self.room)
        assert (again.memory, again.events) == (decision.memory, ()), "deciding again changes nothing"
        self.memory = decision.memory
        self.numbers.append(decision.replicas)
        self.decisions.append(decision)
        while len(self.pods) > decision.replicas:
            self.pods.popitem()
        while len(self.pods) < decision.replicas:
            self.count += 1
            self.pods[f"p{self.count}"] = self.now + (self.start if self.numbers[1:] else timedelta(0))

    def at_rest(self, replicas: int) -> "Service":
        """Begin with so many pods that have been ready for long."""
        self.memory = at(replicas)
        self.pods = {f"p{i}": LONG_AGO for i in range(-replicas, 0)}
        return self


def cache_of(percent: Callable[[float], float]) -> Callable[[float], Mapping[str, float]]:
    """Return a load of the cache in percent of one pod, with nobody waiting."""
    return lambda minutes: {CACHE: percent(minutes), RUNNING: percent(minutes) / 5, WAITING: 0}


def without(observed: Observed, pods: set[str]) -> Observed:
    """Return what was observed without the samples of some pods."""
    points = tuple(
        Point(p.at, {name: values for name, values in p.pods.items() if name not in pods})
        for p in observed.points
    )
    return replace(observed, points=points)
