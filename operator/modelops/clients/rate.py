"""Bound how often something happens: a token bucket that tells how long to wait."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Hand out ``per_second`` tokens, at most ``burst`` at once; time is an argument, in seconds."""

    per_second: float
    burst: int
    _tokens: float = field(init=False)
    _at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def reserve(self, now: float) -> float:
        """Take one token and return the seconds to wait before using it.

        Callers get their turns in the order in which they asked.
        """
        if self._at is not None:
            self._tokens = min(float(self.burst), self._tokens + (now - self._at) * self.per_second)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self.per_second)
