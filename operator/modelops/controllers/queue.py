"""Hold the keys that wait for a pass: each at most once, and never in two workers at the same time.

The rules are those of client-go's work queue.
"""

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_SECONDS = 0.005
_CAP_SECONDS = 300.0
_JITTER = 0.2
_WISHED_SECONDS = 0.01
"""Pause after a wish for each key that it brought: a pass takes a few milliseconds."""
_SLACK = 1000
"""So many dead wake-ups stay in the heap at most, beside as many as live."""


class Queue(Generic[K]):
    """Keys with wake-ups and back-off.

    A key added while it is processed runs once more afterwards.  Of several wake-ups of one key the
    earliest wins; taking the key clears it, since the pass that follows says anew when to look again.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._waiting: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # when it was added
        self._processing: set[K] = set()
        self._ripe: set[K] = set()  # of the dirty ones, those that nothing but their time has woken
        self._timed: set[K] = set()  # of those that are processed
        self._wake_ups: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._wishes: dict[str, tuple[float, Callable[[], Iterable[K]]]] = {}
        self._wished_until: dict[str, float] = {}  # before that no wish of the name comes true again
        self._count = 0  # orders wake-ups of one instant, so that keys are never compared
        self._failures: dict[K, int] = {}
        self._held: dict[K, float] = {}
        self._is_shut = False
        self._changed = asyncio.Event()

    # --- adding ----------------------------------------------------------------------------------

    def add(self, key: K) -> None:
        """Ask for a pass as soon as possible."""
        self._ripe.discard(key)
        if self._is_shut or key in self._dirty:
            return
        if (left := self._left(key)) > 0:
            self.add_after(key, left)
            return
        self._dirty[key] = self._monotonic()
        if key not in self._processing:
            self._waiting.append(key)
            self._changed.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for a pass in *seconds*, unless an earlier wake-up exists."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._monotonic() + seconds
        if self._is_shut or self._wake_ups.get(key, due + 1) <= due:
            return
        self._wake_ups[key] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, key))
        self._changed.set()

    def add_all_after(self, seconds: float, name: str, keys: Callable[[], Iterable[K]]) -> None:
        """Ask for a pass of all that *keys* names in *seconds*; one wish of a *name* waits at a time.

        *keys* is asked when the time has come, so nobody is missed who came to be named meanwhile.  The more
        keys a wish brought, the longer the next one of its name waits.
        """
        if self._is_shut or name in self._wishes:
            return
        due = max(self._monotonic() + seconds, self._wished_until.get(name, 0.0))
        self._wishes[name] = (due, keys)
        self._changed.set()

    def hold(self, key: K, seconds: float) -> None:
        """Ask for a pass in *seconds*, and for none before, whatever is added: the server asked for it."""
        self._held[key] = self._monotonic() + seconds
        self.add_after(key, seconds)

    def add_backoff(self, key: K, first: float = _FIRST_SECONDS, cap: float = _CAP_SECONDS) -> float:
        """Ask for a pass later, the later the more often it failed; return the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(cap, first * 2.0 ** min(failures, 40))
        pause *= 1 + self._jitter(-_JITTER, _JITTER)
        self.add_after(key, pause)
        return pause

    def forget(self, key: K) -> None:
        """Begin the back-off anew: the key succeeded."""
        self._failures.pop(key, None)

    def purge(self, key: K) -> None:
        """Drop everything remembered of a key that is gone, but a pass that was asked for."""
        self._failures.pop(key, None)
        self._wake_ups.pop(key, None)
        self._held.pop(key, None)

    # --- taking ----------------------------------------------------------------------------------

    def take(self) -> K | None:
        """Return the key that waited longest and mark it processing; None when none waits."""
        self._ripen()
        if not self._waiting:
            return None
        key = self._waiting.popleft()
        self._processing.add(key)
        del self._dirty[key]
        self._wake_ups.pop(key, None)
        self._held.pop(key, None)
        if key in self._ripe:
            self._ripe.discard(key)
            self._timed.add(key)
        return key

    def is_timed(self, key: K) -> bool:
        """Return whether *key*, which is processed now, was woken by its time alone: nobody has added it."""
        return key in self._timed

    def done(self, key: K) -> None:
        """End the processing of *key*; it waits again when it was added meanwhile."""
        self._processing.discard(key)
        self._timed.discard(key)
        if key not in self._dirty:
            return
        if (left := self._left(key)) > 0:
            del self._dirty[key]
            self.add_after(key, left)
            return
        self._waiting.append(key)
        self._changed.set()

    async def get(self) -> K | None:
        """Wait for a key and take it; None once the queue is shut."""
        while not self._is_shut:
            self._changed.clear()
            if (key := self.take()) is not None:
                return key
            await self._wait()
        return None

    def shut(self) -> None:
        """Hand out no more keys; whoever waits in `get` is told."""
        self._is_shut = True
        self._changed.set()

    # --- what it holds ---------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """How many keys wait for a worker now."""
        return len(self._waiting)

    @property
    def age(self) -> float:
        """Seconds since the key at the head was added; 0.0 when none waits."""
        return self._monotonic() - self._dirty[self._waiting[0]] if self._waiting else 0.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of every inner map, to prove that nothing is left behind."""
        return (
            len(self._waiting),
            len(self._dirty),
            len(self._processing),
            len(self._wake_ups),
            len(self._held),
            len(self._failures),
            len(self._wishes),
            len(self._ripe) + len(self._timed),
        )

    @property
    def is_idle(self) -> bool:
        """Whether no key waits and none is processed; wake-ups of the future do not count."""
        return not self._waiting and not self._processing

    def next_wake_up(self) -> float | None:
        """Return the seconds to the next wake-up, or None."""
        due = [due for due, _ in self._wishes.values()]
        while self._heap and self._wake_ups.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # taken, purged, or replaced by an earlier one
        if len(self._heap) > 2 * len(self._wake_ups) + _SLACK:  # most of it is as dead as that
            self._heap = [entry for entry in self._heap if self._wake_ups.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        due += [self._heap[0][0]] if self._heap else []
        return max(0.0, min(due) - self._monotonic()) if due else None

    def _left(self, key: K) -> float:
        """Return the seconds for which *key* is held; 0.0 when it is not."""
        return max(0.0, self._held[key] - self._monotonic()) if key in self._held else 0.0

    def _ripen(self) -> None:
        """Add every key whose wake-up is due."""
        while self.next_wake_up() == 0.0:
            if self._heap and self._heap[0][0] <= self._monotonic():
                _, _, key = heapq.heappop(self._heap)
                del self._wake_ups[key]
                is_new = key not in self._dirty
                self.add(key)
                if is_new and key in self._dirty:
                    self._ripe.add(key)
                continue
            name = min(self._wishes, key=lambda name: self._wishes[name][0])
            _, wanted = self._wishes.pop(name)
            keys = tuple(wanted())
            self._wished_until[name] = self._monotonic() + len(keys) * _WISHED_SECONDS
            for key in keys:
                self.add(key)

    async def _wait(self) -> None:
        """Wait until something was added or the next wake-up is due."""
        try:
            async with asyncio.timeout(self.next_wake_up()):
                await self._changed.wait()
        except TimeoutError:
            return
