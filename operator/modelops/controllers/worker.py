"""Take keys and give each a pass: gather, decide, act; then say when to look again."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

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
from modelops.controllers.seam import Root
from modelops.controllers.store import Key, Row, Store
from modelops.plan import Event, Plan, Reason

log = logging.getLogger(__name__)

_PASS_SECONDS = 60.0
_CONFLICT_SECONDS, _CONFLICT_CAP_SECONDS = 0.2, 10.0
_REFUSED_SECONDS = 1.0
_BUSY_SECONDS = 2.0
_SPREAD = 0.1
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
        self.alive = 0
        """How many workers take keys now."""

    def purge(self, key: Key) -> None:
        """Drop everything remembered of a key that is gone."""
        self._told.pop(key, None)
        self._repair_at.pop(key, None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of every inner map, to prove that nothing is left behind."""
        return len(self._told), len(self._repair_at)

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
        finally:
            self.alive -= 1

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

    async def _pass(self, key: Key, row: Row) -> Plan | None:
        """Gather, decide and act; None when there is nothing to plan."""
        root = self._roots[key.kind]
        seen = root.gather(key, self._loop.store)
        if seen is None:
            return None
        plan = root.plan(seen, self._loop.clock.now())
        await self._loop.executor.execute(root.resource, row, plan, repairs=self._is_repair(key))
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
        pause = self._loop.resync.total_seconds() * _spread(key)
        if plan.after is not None:
            pause = min(pause, max(0.0, plan.after.total_seconds()))
        self._loop.queue.add_after(key, pause)

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
