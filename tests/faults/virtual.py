"""An event loop in which nobody waits: when nothing is ready, the clock jumps to the next timer.

Sockets are real.  Everything that talks must run in this one loop: then nothing ready is nothing under way.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_GUARD_SECONDS = 0.001
"""A segment may be still in the kernel when the loop has nothing to do."""
_STUCK_SECONDS = 5.0


class _Jumping(selectors.DefaultSelector):
    """Never waits for time: it moves the clock."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        ready = super().select(_GUARD_SECONDS if timeout is not None else _STUCK_SECONDS)
        if not ready and timeout is not None:
            self.loop.seconds += max(0.0, timeout)
        elif not ready:
            raise AssertionError("the loop is stuck: no timer, and nobody speaks")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time moves only when nobody has anything to do."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* in a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
