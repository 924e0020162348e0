"""Know when the last answer is over.  Instants are seconds on any one clock."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Flow:
    """What is open, and when something last moved.

    ``grace_seconds``: how long after a pod began to leave requests may still arrive, since gateways
    and kube-proxy learn of it late.  ``quiet_seconds``: how long nothing may have moved.
    """

    grace_seconds: float
    quiet_seconds: float
    is_draining: bool = False
    open: int = 0
    waiting: int = 0
    _last_move: float = float("-inf")
    _left_at: float | None = field(default=None)

    def arrive(self, now: float) -> None:
        """Note a request.  One that arrives after a finished wait shows that the pod had not left."""
        self.open += 1
        self._last_move = now
        self._left_at = None

    def leave(self, now: float) -> None:
        """Note the end of an answer."""
        self.open -= 1
        self._last_move = now

    @property
    def is_leaving(self) -> bool:
        """Whether answers should ask their client to come back on another connection."""
        return self.is_draining or self.waiting > 0

    def drained_in(self, since: float, now: float) -> float | None:
        """Return the seconds until all is over for a pod that leaves since *since*; 0 is over.

        ``None``: something is open, so nobody knows.
        """
        if self.open:
            return None
        return max(0.0, since + self.grace_seconds - now, self._last_move + self.quiet_seconds - now)

    def waited(self, since: float) -> None:
        """Note that a wait from *since* saw the end: the grace need not be served twice."""
        self._left_at = since

    def leaving_since(self, now: float) -> float:
        """Return since when the pod leaves, for a SIGTERM at *now*."""
        return now if self._left_at is None else self._left_at
