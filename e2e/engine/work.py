"""Slots, and the making of tokens at the pace of the knobs."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from e2e.engine.flags import Settings
from e2e.engine.knobs import Knobs

_SENTENCE = "a stand in says these plain words again and again until its answer is long enough"
_WORDS = tuple(_SENTENCE.split())


class BrokenOff(Exception):
    """The engine gave this request up."""


@dataclass(slots=True)
class Job:
    """One request from arrival to end.  Instants in seconds on the loop's clock."""

    arrived: float
    prompt_tokens: int
    wanted_tokens: int
    is_streaming: bool
    is_cut: bool = False
    scheduled: float = 0.0
    first: float = 0.0
    last: float = 0.0
    made: int = 0

    @property
    def seconds_per_token(self) -> float | None:
        """The mean seconds of each token after the first."""
        return (self.last - self.first) / (self.made - 1) if self.made > 1 else None


class Machine:
    """The pretended accelerator: so many jobs at once, the others wait in order."""

    def __init__(self, settings: Settings, knobs: Knobs, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.knobs = knobs
        self.clock = clock
        self.running: list[Job] = []
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.open = 0
        self.is_draining = False
        self.is_broken = False
        self.is_frozen = False
        self._chance = random.Random(knobs.seed)
        self._changed = asyncio.Event()

    def turn(self, knobs: Knobs) -> None:
        """Put other knobs in force; more slots start waiting jobs at once."""
        self.knobs = knobs
        self._wake()

    def happens(self, share: float) -> bool:
        """Throw the dice."""
        return self._chance.random() < share

    @property
    def slots(self) -> int:
        return self.knobs.slots or self.settings.slots

    @property
    def kv_usage(self) -> float:
        """The share of the cache in use, 0 to 1."""
        held = sum(job.prompt_tokens + job.made for job in self.running)
        return min(1.0, held / max(1, self.knobs.kv_tokens))

    def break_off(self) -> None:
        """Give up everything that runs."""
        self.is_broken = True
        self._changed.set()

    @asynccontextmanager
    async def slot(self, job: Job) -> AsyncIterator[None]:
        """Hold a slot; waits in order of arrival."""
        while len(self.running) >= self.slots:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self.waiting:
                    self.waiting.remove(turn)
                else:
                    self._wake()  # called, but gone: the next one's turn
                raise
        job.scheduled = self.clock()
        self.running.append(job)
        try:
            yield
        finally:
            self.running.remove(job)
            self._wake()

    async def tokens(self, job: Job) -> AsyncIterator[str]:
        """Make the words of the answer, each when its time has come."""
        due = self.clock() + self._about(self.knobs.ttft)
        for index in range(job.wanted_tokens):
            await self._until(due)
            if job.is_cut and index * 2 >= job.wanted_tokens:
                raise BrokenOff
            job.last = self.clock()
            job.first = job.first or job.last
            job.made += 1
            yield ("" if index == 0 else " ") + _WORDS[index % len(_WORDS)]
            due += self._about(self.knobs.itl)

    async def _until(self, due: float) -> None:
        if self.is_frozen:
            await asyncio.Event().wait()  # silent until the client leaves
        if not self.is_broken:
            try:
                async with asyncio.timeout(max(0.0, due - self.clock())):
                    await self._changed.wait()
            except TimeoutError:
                pass
        if self.is_broken:
            raise BrokenOff

    def _about(self, seconds: float) -> float:
        spread = self.knobs.jitter
        return seconds * (1 + self._chance.uniform(-spread, spread)) if spread else seconds

    def _wake(self) -> None:
        free = self.slots - len(self.running)
        while free > 0 and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
