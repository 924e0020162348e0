"""Tell decisions what time it is: a wall clock that does not jump."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_SLEW = 0.05
"""The largest share of elapsed time that is added or left out to meet the wall clock."""


class Clock:
    """Wall time anchored once and carried by the monotonic clock.

    A jump of the machine's wall clock must neither shorten nor lengthen a step of a rollout, nor make
    a wait negative.  `adjust` sets a course toward the wall clock that makes time run at most 5 % faster
    or slower, so ``now`` never goes back and a step is never off by more than that.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._anchor = wall()
        self._since = monotonic()
        self._ahead = 0.0  # of the wall clock, when the course was set

    def now(self) -> datetime:
        """Return the instant that decisions use, in UTC."""
        return datetime.fromtimestamp(self._seconds(self._monotonic()), UTC)

    def offset(self) -> timedelta:
        """Return how far the machine's wall clock is ahead."""
        return timedelta(seconds=self._wall() - self._seconds(self._monotonic()))

    def adjust(self) -> None:
        """Set the course anew from the wall clock as it is now; call it now and then."""
        now = self._monotonic()
        self._anchor, self._since = self._seconds(now), now
        self._ahead = self._wall() - self._anchor

    def _seconds(self, now: float) -> float:
        passed = now - self._since
        most = _SLEW * passed
        return self._anchor + passed + min(most, max(-most, self._ahead))
