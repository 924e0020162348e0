"""Decide how many pods serve: bounds, then the clock, then the load; missing data never takes a pod away.

The number is for the whole service.  A rollout shares it between its versions, whatever it is.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from modelops.api.scaling import LoadMetric
from modelops.plan import Event, Reason
from modelops.scaling.codes import (
    AWAY,
    BOUNDS,
    CLOCK,
    DOWN,
    MAXIMUM,
    MISSING,
    NO_ROOM,
    STARTED,
    TROUBLES,
    UP,
    WANTS_MORE,
    WITHIN,
)
from modelops.scaling.load import (
    Load,
    Observed,
    Point,
    amount,
    is_whole,
    pods_at_least,
    pods_at_most,
    sampled,
    window,
)
from modelops.scaling.memory import KEEP, LONGEST, Change, Memory
from modelops.scaling.rules import Rate, Rules

STALE = timedelta(seconds=60)
"""Samples that are older say nothing about now."""
GRACE = timedelta(seconds=60)
"""A pod may be ready for so long before it has a sample: it counts as one that starts."""
TRIED = timedelta(hours=1)
"""So long a number of pods that was too few for a queue is remembered."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the decision looks at beside its rules and its memory."""

    service: str
    ready: Mapping[str, datetime | None]
    """Ready pods of all versions by name, and since when; None: not told."""
    live: int = 0
    """Pods of the version that serves, ready or not; for a service whose memory was lost."""
    observed: Observed | None = None
    """None: nothing was read yet."""
    is_rolling: bool = False
    """Whether two versions have pods."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many replicas have a place."""

    replicas: int
    lacking: str = ""
    """What the others wait for, such as 2 x (1 x NVIDIA-L4)."""


AskRoom = Callable[[int, int], Room]
"""Tells, for the number of replicas now and a larger one, how many of them would find a place."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas, and why."""

    memory: Memory
    events: tuple[Event, ...] = ()
    after: timedelta | None = None
    """When time alone changes it: a window of the schedule, or samples that grow old; None: it does not."""

    @property
    def replicas(self) -> int:
        """Return the number that is wanted."""
        assert self.memory.replicas is not None
        return self.memory.replicas


@dataclass(frozen=True, slots=True)
class _Aim:
    """A number that a part of the decision wants, and why."""

    replicas: int
    code: str
    message: str


def decide(seen: Seen, rules: Rules, memory: Memory, now: datetime, room: AskRoom) -> Decision:
    """Return how many replicas are wanted at *now*.

    Laws: within the bounds; more load never means fewer; a missing sample never means fewer; deciding again
    at the same *now* from what was decided changes nothing.
    """
    start = memory
    memory = _within_bounds(seen, rules, memory, now)
    opened = rules.calendar.at(now) if rules.calendar else None
    floor = max(rules.least, min(opened.replicas, rules.most)) if opened else rules.least
    if opened is not None and floor > _current(memory):
        aim = _Aim(floor, CLOCK, f"the schedule wants {opened.replicas} until {opened.ends}")
        memory = _raised(seen, rules, memory, aim, now, room)
    if rules.loads:
        memory = _by_load(seen, rules, memory, floor, now, room)
    elif floor < _current(memory) and not rules.is_by_load:
        memory = _changed(seen, memory, _Aim(floor, CLOCK, "no window of the schedule wants more"), now)
    elif memory.code in TROUBLES and not (memory.code == NO_ROOM and floor > _current(memory)):
        memory = _told(seen, memory, WITHIN, f"the schedule wants {floor}", now)
    after = min(_changes(seen, rules, now), default=None)
    if (memory.replicas, memory.code, memory.history) == (start.replicas, start.code, start.history):
        memory = start  # what was told on the way was told before
    return Decision(memory, tuple(_events(start, memory)), after)


def _changes(seen: Seen, rules: Rules, now: datetime) -> Iterable[timedelta]:
    """Yield when time alone may change the decision."""
    if rules.calendar is not None:
        yield rules.calendar.changes_after(now)
    observed = seen.observed
    if rules.loads and observed is not None and observed.points and observed.away_since is None:
        left = observed.points[-1].at + STALE - now
        if left >= timedelta(0):
            yield left + timedelta(seconds=1)


def held(seen: Seen, least: int, memory: Memory, reason: Reason, now: datetime) -> Decision:
    """Return the number that there was, since what is asked cannot be done for *reason*."""
    start = memory
    if memory.replicas is None or memory.replicas < least:
        replicas = max(least, seen.live if memory.replicas is None else 0)
        memory = replace(memory, replicas=replicas)
    if (memory.code, memory.message) != (reason.code, reason.message):
        memory = replace(memory, code=reason.code, message=reason.message[:LONGEST], since=now)
    return Decision(memory, tuple(_events(start, memory)))


# --- bounds ------------------------------------------------------------------------------------------


def _within_bounds(seen: Seen, rules: Rules, memory: Memory, now: datetime) -> Memory:
    """Follow the user's bounds at once; a lost memory is taken from the pods, so that none goes for it."""
    if memory.replicas is None:
        replicas = min(max(seen.live, rules.least), rules.most)
        message = f"{seen.service}: starts with {_replicas(replicas)}, of {rules.least} to {rules.most}"
        return replace(memory, replicas=replicas, code=STARTED, message=message, since=now)
    inside = min(max(memory.replicas, rules.least), rules.most)
    if inside == memory.replicas:
        return memory
    which = f"minReplicas is {rules.least}" if inside > memory.replicas else f"maxReplicas is {rules.most}"
    return _changed(seen, memory, _Aim(inside, BOUNDS, which), now)


# --- load --------------------------------------------------------------------------------------------


def _by_load(seen: Seen, rules: Rules, memory: Memory, floor: int, now: datetime, room: AskRoom) -> Memory:
    current, observed = _current(memory), seen.observed
    if observed is None or not seen.ready:
        return memory  # nothing was read yet, or nothing serves that could be measured
    trouble = _unreadable(seen, observed, now)
    if trouble is not None:
        return _told(seen, memory, trouble.code, trouble.message, now)
    more = _needed(seen, rules, observed, current)
    if more is not None and more.replicas > current:
        return _raised(seen, rules, memory, more, now, room)
    trouble = _unsampled(seen, rules, observed, now)
    if trouble is not None:
        return _told(seen, memory, trouble.code, trouble.message, now)
    fewer = _enough(seen, rules, memory, observed, floor, now)
    if fewer is not None and fewer.replicas < current:
        return _lowered(seen, rules, memory, fewer, now)
    if memory.code in WANTS_MORE and (fewer is None or floor > current):
        return memory  # it may want more again in a moment, or the clock still does
    if memory.code in TROUBLES:
        return _told(seen, memory, WITHIN, _numbers(rules.loads, observed.points[-1]), now)
    return memory


def _unreadable(seen: Seen, observed: Observed, now: datetime) -> Reason | None:
    """Return why nothing can be said about now; None: it can."""
    if observed.away_since is not None:
        since = f"Prometheus does not answer since {observed.away_since:%H:%M:%SZ}"
        return Reason(AWAY, f"needs metrics to scale, {since}")
    if not observed.is_named:
        return Reason(MISSING, "needs series with the label pod, found some without; add it when scraping")
    last = observed.points[-1].at if observed.points else None
    if last is None or now - last > STALE:
        found = f"the last of {last:%H:%M:%SZ}" if last else "none"
        return Reason(AWAY, f"needs samples of the last {STALE.total_seconds():.0f} s, found {found}")
    return None


def _unsampled(seen: Seen, rules: Rules, observed: Observed, now: datetime) -> Reason | None:
    """Return which metric a ready pod lacks; None: none, so that all that is known of now is all there is."""
    ready = [pod for pod, since in seen.ready.items() if since is None or now - since >= GRACE]
    for load in rules.loads:
        found = sampled(observed.points[-1], load)
        have = sum(pod in found for pod in ready)
        if have < len(ready):
            return Reason(
                MISSING,
                f"needs {load.metric} of all {len(ready)} ready pods to take one away, found it of {have}",
            )
    return None


def _needed(seen: Seen, rules: Rules, observed: Observed, current: int) -> _Aim | None:
    """Return the most that any metric asks for without a break; None: none has a whole window."""
    points = window(observed.points, rules.up.window, observed.step)
    aims = [
        _Aim(min(pods_at_least(point, load, current) for point in points), UP, "")
        for load in rules.loads
        if points is not None and is_whole(points, load)
    ]
    if not aims:
        return None
    wanted = max(aim.replicas for aim in aims)
    return _Aim(wanted, UP, f"needs {wanted} by {_numbers(rules.loads, observed.points[-1])}")


def _enough(
    seen: Seen, rules: Rules, memory: Memory, observed: Observed, floor: int, now: datetime
) -> _Aim | None:
    """Return how few pods would do by every metric without a break; None: it is too early to say."""
    current, points = _current(memory), window(observed.points, rules.down.window, observed.step)
    if points is None or not all(is_whole(points, load) for load in rules.loads):
        return None
    if any(_is_short(seen, load, points[-1]) for load in rules.loads):
        return None
    raised = max((c.at for c in memory.history if c.after > c.before), default=None)
    if raised is not None and now - raised < rules.cooldown:
        return None
    is_alone = len(rules.loads) == 1
    if is_alone and not _may_try(rules, memory, now):
        return None
    would_do = max(
        pods_at_most(point, load, current, is_alone=is_alone, is_rolling=seen.is_rolling)
        for load in rules.loads
        for point in points
    )
    span = f"for {rules.down.window.total_seconds():.0f} s"
    text = f"{max(would_do, floor)} would have done {span}, now {_numbers(rules.loads, points[-1])}"
    return _Aim(max(would_do, floor), DOWN, text)


def _is_short(seen: Seen, load: Load, point: Point) -> bool:
    """Return whether the pods that are ready have too much while others start, as HPA counts unready ones."""
    ready = sum(pod in seen.ready for pod in sampled(point, load))
    return amount(point, load) > ready * load.target


def _may_try(rules: Rules, memory: Memory, now: datetime) -> bool:
    """Return whether one fewer may be tried by a queue alone: the window is about the number of now.

    What was too few within the hour is not tried again, else it would go up and down for ever.
    """
    if rules.loads[0].metric is not LoadMetric.QUEUED_REQUESTS:
        return True
    last = memory.history[-1].at if memory.history else memory.since
    was_too_few = any(
        c.code == UP and c.before == _current(memory) - 1 and now - c.at < TRIED for c in memory.history
    )
    return not was_too_few and (last is None or now - last >= rules.down.window)


# --- changes -----------------------------------------------------------------------------------------


def _raised(seen: Seen, rules: Rules, memory: Memory, aim: _Aim, now: datetime, room: AskRoom) -> Memory:
    """Add pods as far as bounds, rate and room go; say what stands in the way."""
    current = _current(memory)
    wanted = min(aim.replicas, rules.most)
    if aim.code == UP:
        wanted = min(wanted, current + _left(rules.up, memory, UP, now))
    found = room(current, wanted) if wanted > current else Room(current)
    after = max(current, min(wanted, found.replicas))
    if after > current:
        memory = _changed(seen, memory, replace(aim, replicas=after), now)
    if after < wanted:
        waits = f"{aim.message}, found room for {after}; waits for {found.lacking}"
        return _told(seen, memory, NO_ROOM, waits, now)
    if after == rules.most and aim.replicas > rules.most:
        text = f"{aim.message}, found maxReplicas {rules.most}; raise it or add to the target"
        return _told(seen, memory, MAXIMUM, text, now)
    return memory


def _lowered(seen: Seen, rules: Rules, memory: Memory, aim: _Aim, now: datetime) -> Memory:
    current = _current(memory)
    after = max(aim.replicas, current - _left(rules.down, memory, DOWN, now))
    return memory if after >= current else _changed(seen, memory, replace(aim, replicas=after), now)


def _left(rate: Rate, memory: Memory, code: str, now: datetime) -> int:
    """Return how many pods may still come or go in this period; none when older changes are forgotten."""
    recent = [change for change in memory.history if now - change.at < rate.period]
    if len(recent) >= KEEP:
        return 0
    return max(0, rate.pods - sum(abs(c.after - c.before) for c in recent if c.code == code))


def _changed(seen: Seen, memory: Memory, aim: _Aim, now: datetime) -> Memory:
    before = _current(memory)
    message = f"{seen.service}: {before} to {_replicas(aim.replicas)}: {aim.message}"[:LONGEST]
    change = Change(now, before, aim.replicas, aim.code, message)
    return Memory(aim.replicas, aim.code, message, now, (*memory.history, change)[-KEEP:])


def _told(seen: Seen, memory: Memory, code: str, message: str, now: datetime) -> Memory:
    """Return the memory with another reason; the numbers of one reason stay as they were first told."""
    if memory.code == code:
        return memory
    text = f"{seen.service}: stays at {_replicas(_current(memory))}: {message}"[:LONGEST]
    return replace(memory, code=code, message=text, since=now)


def _events(before: Memory, after: Memory) -> Iterable[Event]:
    known = len(after.history) and after.history[-1]
    if known and (not before.history or before.history[-1] != known) and before.replicas != after.replicas:
        yield Event("Normal", known.code, known.message)
    if after.code in TROUBLES and after.code != before.code:
        yield Event("Warning", after.code, after.message)


def _current(memory: Memory) -> int:
    assert memory.replicas is not None
    return memory.replicas


# --- numbers -----------------------------------------------------------------------------------------


def _numbers(loads: Iterable[Load], point: Point) -> str:
    """Return each load as people read it: KVCacheUse 312 % in 4 pods, 70 % each."""
    return " and ".join(_number(load, point) for load in loads)


def _number(load: Load, point: Point) -> str:
    unit = " %" if load.metric is LoadMetric.KV_CACHE_USE else ""
    pods = len(sampled(point, load))
    total = f"{amount(point, load):.10g}" if unit == "" else f"{amount(point, load):.0f}"
    return f"{load.metric} {total}{unit} in {pods} pod{'' if pods == 1 else 's'}, {load.target}{unit} each"


def _replicas(number: int) -> str:
    return f"{number} replica{'' if number == 1 else 's'}"
