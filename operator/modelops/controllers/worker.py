"""Take keys and give each a pass: gather, decide, act; then say when to look again."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from modelops.clients.errors import (
    Ambiguous,
    Conflict,
    Forbidden,
    Invalid,
    NotLeading,
    Refuser,
    Unavailable,
)
from modelops.controllers import metrics
from modelops.controllers.clock import Clock
from modelops.controllers.execute import Executor, KindAbsent, NameTaken
from modelops.controllers.observations import REFUSED, Observations
from modelops.controllers.queue import Queue
from modelops.controllers.reading import Mark, Reading
from modelops.controllers.seam import Root
from modelops.controllers.store import Key, Row, Store
from modelops.plan import Event, Plan, Reason

log = logging.getLogger(__name__)

_PASS_SECONDS = 60.0
_CONFLICT_SECONDS, _CONFLICT_CAP_SECONDS = 0.2, 10.0
_REFUSED_SECONDS = 1.0
_BUSY_SECONDS = 2.0
_SPREAD = 0.1
_SHARE_SECONDS = 0.005
"""A worker goes on for so long before others have their turn."""
_Refusal = Forbidden | Invalid | NameTaken | KindAbsent
"""What asking again does not cure: somebody has to change something first."""
_REPAIR_EVERY = 20
"""In one of so many resyncs equal children are applied too: what somebody changed is put right."""


@dataclass(frozen=True, slots=True)
class Loop:
    """What a worker works with."""

    store: Store
    queue: Queue[Key]
    observations: Observations
    executor: Executor
    clock: Clock
    resync: timedelta


class _Rest(NamedTuple):
    """What the last pass of a key read, when it wrote nothing."""

    mark: Mark
    until: float
    """When its plan asked for the next look, in monotonic seconds; infinity: it did not."""


class Workers:
    """Give passes, several at a time, one per key."""

    def __init__(
        self, loop: Loop, roots: Iterable[Root], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._roots = {root.resource.kind: root for root in roots}
        self._monotonic = monotonic
        self._told: dict[Key, str] = {}  # the last failure that was logged
        self._repair_at: dict[Key, float] = {}
        self._rests: dict[Key, _Rest] = {}
        self._yielded_at = monotonic()
        self.alive = 0
        """How many workers take keys now."""

    def purge(self, key: Key) -> None:
        """Drop everything remembered of a key that is gone."""
        self._told.pop(key, None)
        self._repair_at.pop(key, None)
        self._rests.pop(key, None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of every inner map, to prove that nothing is left behind."""
        return len(self._told), len(self._repair_at), len(self._rests)

    async def run(self, synced: asyncio.Event) -> None:
        """Take keys until the queue is shut; one worker."""
        await synced.wait()
        self.alive += 1
        try:
            while (key := await self._next()) is not None:
                try:
                    await self.give_pass(key)
                finally:
                    self._loop.queue.done(key)
                await self._let_others()
        finally:
            self.alive -= 1

    async def _let_others(self) -> None:
        """Let everybody else have the loop now and then: a pass that writes nothing waits for nothing.

        Else a resync of all would hold it for seconds, and the Lease could not be renewed.
        """
        if (now := self._monotonic()) - self._yielded_at >= _SHARE_SECONDS:
            self._yielded_at = now
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if is_requested():
                    raise

    async def _next(self) -> Key | None:
        while True:
            try:
                return await self._loop.queue.get()
            except asyncio.CancelledError:
                if is_requested():
                    raise

    async def give_pass(self, key: Key) -> None:
        """Give one pass and enqueue the next; nothing but a requested cancellation gets out."""
        if key.kind not in self._roots:
            return  # an observation about something that is not planned
        row = self._loop.store.get(*key)
        if row is None:
            self._forget(key)
            return
        if self._loop.queue.is_timed(key) and self._may_rest(key, row):
            return
        self._rests.pop(key, None)
        metrics.PASSES.labels(key.kind).inc()
        try:
            with metrics.PASS_SECONDS.labels(key.kind).time():
                async with asyncio.timeout(_PASS_SECONDS):
                    plan = await self._pass(key, row)
        except asyncio.CancelledError as error:
            if is_requested():
                raise
            self._failed(key, error)
        except (Forbidden, Invalid, NameTaken, KindAbsent) as error:
            await self._refused(key, row, error)
        except Exception as error:  # noqa: BLE001  # a bug in one object must stop no other
            self._look_again(key, error)
        else:
            self._succeeded(key, plan)

    def _look_again(self, key: Key, error: Exception) -> None:
        """Say when a pass that failed is given again."""
        queue = self._loop.queue
        match error:
            case Conflict():  # somebody wrote first: no error, but two that fight must not fight hard
                log.debug("%s: plans again: %s", key, error)
                queue.add_backoff(key, first=_CONFLICT_SECONDS, cap=_CONFLICT_CAP_SECONDS)
            case Unavailable():
                self._wait_for_server(key, error)
            case NotLeading():
                queue.add_after(key, _BUSY_SECONDS)
            case _:
                self._failed(key, error)

    def _may_rest(self, key: Key, row: Row) -> bool:
        """Return whether a resync need not plan, since it would read what the pass before has read.

        That one wrote nothing, and time changes nothing before its plan said so.  Now and then a resync plans
        all the same: what somebody changed in a child is put right then.
        """
        rest, now = self._rests.get(key), self._monotonic()
        if rest is None or now >= rest.until or now >= self._repair_at.get(key, now):
            return False
        if not rest.mark.holds(key, row.uid, self._loop.store, self._loop.observations):
            return False
        metrics.RESTS.labels(key.kind).inc()
        self._loop.queue.add_after(key, min(self._resync_seconds(key), rest.until - now))
        return True

    async def _pass(self, key: Key, row: Row) -> Plan | None:
        """Gather, decide and act; None when there is nothing to plan."""
        root, loop = self._roots[key.kind], self._loop
        reading = Reading(key, loop.store, loop.observations)
        reading.get(*key)
        seen = root.gather(key, reading)
        if seen is None:
            return None
        plan = root.plan(seen, loop.clock.now())
        is_repair = self._is_repair(key)
        has_written = await loop.executor.execute(root.resource, reading, row, plan, repairs=is_repair)
        if root.rests and reading.can_be_marked and not has_written:
            after = math.inf if plan.after is None else plan.after.total_seconds()
            self._rests[key] = _Rest(reading.mark(row.uid), self._monotonic() + after)
        return plan

    def _succeeded(self, key: Key, plan: Plan | None) -> None:
        self._told.pop(key, None)
        self._loop.queue.forget(key)
        if self._loop.store.get(*key) is None:
            self._forget(key)
            return
        self._loop.observations.put(key, REFUSED, None)
        if plan is None:
            return
        pause = self._resync_seconds(key)
        if plan.after is not None:
            pause = min(pause, max(0.0, plan.after.total_seconds()))
        self._loop.queue.add_after(key, pause)

    def _resync_seconds(self, key: Key) -> float:
        return self._loop.resync.total_seconds() * _spread(key)

    def _wait_for_server(self, key: Key, error: Unavailable) -> None:
        """Come back when the server asked, without growing the back-off: the key did nothing wrong."""
        self._tell(key, error)
        pause = _BUSY_SECONDS if error.retry_after is None else error.retry_after.total_seconds()
        self._loop.queue.hold(key, max(0.2, pause) * random.uniform(1.0, 1.2))

    async def _refused(self, key: Key, row: Row, error: _Refusal) -> None:
        """Leave the refusal for the next plan to tell; it is the user's news, not an error of ours."""
        reason = _reason(error)
        metrics.PASS_REFUSALS.labels(key.kind, reason.code).inc()
        if self._loop.observations.refused(key) != reason:
            self._tell(key, error)
            self._loop.observations.put(key, REFUSED, reason)
            event = Event("Warning", reason.code, reason.message)
            await self._loop.executor.tell(self._roots[key.kind].resource, row, event)
        self._loop.queue.add_backoff(key, first=_REFUSED_SECONDS)

    def _failed(self, key: Key, error: BaseException) -> None:
        metrics.PASS_ERRORS.labels(key.kind).inc()
        self._tell(key, error)
        self._loop.queue.add_backoff(key)

    def _tell(self, key: Key, error: BaseException) -> None:
        """Log a failure once, until its message changes or the key succeeds."""
        text = f"{type(error).__name__} {error}".rstrip()
        if self._told.get(key) == text:
            return
        self._told[key] = text
        is_ours = not isinstance(error, Unavailable | Ambiguous | _Refusal)
        log.log(
            logging.ERROR if is_ours else logging.WARNING,
            "%s: pass failed: %s",
            key,
            text,
            exc_info=error if is_ours else None,
        )

    def _is_repair(self, key: Key) -> bool:
        """Say whether this pass applies equal children too, and set the next time."""
        now, every = self._monotonic(), self._loop.resync.total_seconds() * _REPAIR_EVERY
        due = self._repair_at.setdefault(key, now + every * random.random())
        if now < due:
            return False
        self._repair_at[key] = now + every
        return True

    def _forget(self, key: Key) -> None:
        """A key without a row is not enqueued again."""
        self.purge(key)
        self._loop.queue.purge(key)
        self._loop.observations.purge(key)


def is_requested() -> bool:
    """Say whether somebody cancelled this task on purpose.

    kopf cancels what it takes for its own tasks, and who waits for one is hit without having been
    cancelled: then it is a failure like any other.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _spread(key: Key) -> float:
    """Return 0.9 to 1.1, the same for a key in one process, so that resyncs do not come at once."""
    return 1 + _SPREAD * ((hash(key) % 2001) / 1000 - 1)


def _reason(error: _Refusal) -> Reason:
    match error:
        case KindAbsent():
            return Reason("KindAbsent", str(error))
        case NameTaken():
            return Reason("NameTaken", str(error))
        case Invalid():
            return Reason("RejectedByServer", f"{error}; correct the field that it names")
        case Forbidden(by=Refuser.ADMISSION):
            return Reason(
                "RefusedByPolicy",
                f"{error} (refused by {error.who}); change the object, or ask who owns that rule",
            )
        case _:
            return Reason(
                "OperatorLacksRight", f"{error}; give the operator this right, as the chart's roles do"
            )
