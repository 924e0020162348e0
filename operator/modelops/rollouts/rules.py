"""What a policy asks of the machine."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy in force, as far as the machine needs it."""

    steps: tuple[int, ...] = (5, 10, 25, 50)
    """Percent, strictly increasing, in 1..99."""
    dwells: tuple[timedelta, ...] = ()
    """Earliest raise per step, timed pauses included; shorter than ``steps``: ``min_dwell`` fills up."""
    waits: tuple[bool, ...] = ()
    """Whether a step waits for a person's Resume."""
    min_dwell: timedelta = timedelta(minutes=2)
    warmup: timedelta = timedelta(minutes=2)
    min_ready: timedelta = timedelta(seconds=10)
    progress_deadline: timedelta = timedelta(minutes=30)
    restart_limit: int = 3
    scale_down_delay: timedelta = timedelta(minutes=2)
    abort_scale_down_delay: timedelta = timedelta(seconds=30)
    accept_timeout: timedelta = timedelta(minutes=2)
    metrics_away_after: timedelta = timedelta(hours=1)
    rollback_window: int = 3
    is_analysed: bool = True
    """False: readiness alone moves the steps (preset None)."""
    rolls_back: bool = True
    """False: a regression holds instead (onRegression: Hold)."""
    is_suspended: bool = False

    def dwell(self, index: int) -> timedelta:
        """Return how long step *index* lasts at least."""
        return self.dwells[index] if index < len(self.dwells) else self.min_dwell


NO_POLICY = Rules(
    steps=(),
    warmup=timedelta(0),
    is_analysed=False,
)
"""No policy at all: the new version replaces the old one when it is ready."""
