"""Everything that the machine looks at, and what it answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelops.plan import Event, Reason
from modelops.rollouts.rules import Rules
from modelops.rollouts.state import Acted, Revision, Rollout

HOLD_AT = 4.0
"""Evidence of a regression from which no weight is raised."""


@dataclass(frozen=True, slots=True)
class Pods:
    """What runs of one revision."""

    ready: int = 0
    wanted: int = 0
    """How many the revision needs for what is asked of it."""
    restarts: int = 0
    """Container restarts, summed over its pods."""
    without_room: int = 0
    """Pods that no node has room for."""
    live: int = 0
    """Pods that exist, those that are ending included."""


@dataclass(frozen=True, slots=True)
class Route:
    """What our parent Gateway accepted."""

    candidate_weight: int | None = None
    """Percent that the accepted route sends to the candidate; None: no route, or not accepted."""
    stable_hash: str = ""
    """Revision that gets the rest."""
    mirror: int = 0
    """Percent of requests that the accepted route copies to the candidate."""
    is_matched: bool = False
    """Whether the accepted route sends matched requests to the candidate."""
    is_pinned: bool = False
    """Whether it sends clients that bear the candidate's cookie to it."""
    fault: Reason | None = None
    """Why the last write is not accepted; None: it is, or there was none."""
    alone: "Route | None" = None
    """What the last write does, if Accepted is enough: the gateway says nothing about references.
    None: it does, or it has not accepted the last write."""

    @property
    def is_clear(self) -> bool:
        """Whether nothing reaches the candidate for certain; None is an older route that may still run."""
        reaches = self.mirror or self.is_matched or self.is_pinned
        return self.candidate_weight == 0 and not reaches


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's word on the closed windows of this run."""

    verdict: str
    """Continue, Promote, Rollback or Inconclusive."""
    reason: str
    message: str
    robust: float = 1.0
    """Evidence of regression without the most telling window."""
    window_end: datetime | None = None
    """End of the last window that was used."""
    has_canary_traffic: bool = False
    """Whether the last window has a request to the candidate."""
    requests: int = 0
    """Requests of the candidate that every enforced metric has judged."""
    beyond: str | None = None
    """The estimate that is beyond what is acceptable, with its numbers; None: every one is within."""
    is_stable_healthy: bool = True
    """Whether stable's own errors are within the SLO, so that it is something to go back to."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything the machine looks at."""

    service: str
    desired: Revision | None
    """None: the spec names nothing that can be resolved yet; what runs goes on."""
    rules: Rules | None
    """None: the policy that the service names is missing."""
    replicas: int = 1
    """Ready pods that the service should have as a whole."""
    stable: Pods = Pods()
    candidate: Pods = Pods()
    previous: Pods = Pods()
    route: Route = Route()
    hold: Reason | None = None
    """What the gates or the placement say against the candidate."""
    waits_for_capacity: bool = False
    """Whether *hold* is about room on nodes, which is not the version's fault."""
    desired_hold: Reason | None = None
    """What speaks against starting *desired*; room on nodes never does."""
    misrouted: Reason | None = None
    """What the counted requests say against this step's split; None: nothing, or too few were counted."""
    is_doubted: bool = False
    """Whether they may say so soon: a raise waits for the next window."""
    judgement: Judgement | None = None
    """None: no closed window yet."""
    metrics_away_since: datetime | None = None
    action: Acted | None = None
    approval_of: str = ""
    """Model on which a Promote must be an approval; empty: the policy asks for none."""
    distrust: Reason | None = None
    """Why no approval can be believed now; None: the gate in front of them is proven to be in force."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next memory, what to tell once, and when to look again at the latest."""

    state: Rollout
    events: tuple[Event, ...] = ()
    after: timedelta | None = None


def agrees(state: Rollout, route: Route) -> bool:
    """Return whether the accepted route does what the step asks."""
    return (
        route.candidate_weight == state.weight
        and route.mirror == state.mirror
        and route.is_matched == state.is_matched
    )
