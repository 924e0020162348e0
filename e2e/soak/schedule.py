"""Draw from a seed which fault comes when."""

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What is broken."""

    API_SERVER = "api server restarted"
    ETCD = "etcd paused"
    KUBELET_KILLED = "kubelet killed"
    KUBELET_STOPPED = "kubelet stopped"
    SERVING_POD = "serving pod killed"
    PROMETHEUS = "prometheus killed"
    GATEWAY = "gateway control plane killed"
    AGENT = "delivery agent killed"
    LEADER = "leader killed"


LASTS = {Fault.ETCD: (2.0, 8.0), Fault.KUBELET_STOPPED: (4.0, 12.0)}
"""Seconds for which a fault lasts, least and most; a node counts as lost after 20 s without its kubelet."""
GAP = (4.0, 8.0)
"""Seconds from the end of what may not overlap, or from the last fault, to the next."""
APART = 30.0
"""Seconds between two kills of serving pods: the one before is ready again, or the service would be away."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: when, in seconds since the first may come, for how long, and who is hit."""

    at: float
    fault: Fault
    seconds: float
    draw: float
    """From 0 to 1, excluding 1: picks one of those that can be hit."""


def schedule(seed: int, seconds: float) -> tuple[Planned, ...]:
    """Return the faults of a run of so many seconds, in order; the same seed gives the same faults.

    Each kind comes before any comes again, so that a short run has nearly all of them.  Nothing comes while
    etcd is paused: an API server that starts then ends at once.
    """
    chance = random.Random(seed)
    planned: list[Planned] = []
    deck: list[Fault] = []
    at, serving_at = 0.0, -APART
    while True:
        at += chance.uniform(*GAP)
        if at >= seconds:
            return tuple(planned)
        if not deck:
            deck = list(Fault)
            chance.shuffle(deck)
        fault = _next(deck, is_late_enough=at - serving_at >= APART)
        if fault is None:
            continue
        lasts = chance.uniform(*LASTS[fault]) if fault in LASTS else 0.0
        planned.append(Planned(round(at, 1), fault, round(lasts, 1), chance.random()))
        if fault is Fault.SERVING_POD:
            serving_at = at
        if fault is Fault.ETCD:
            at += lasts


def _next(deck: list[Fault], *, is_late_enough: bool) -> Fault | None:
    """Take the next fault that may come now; None: only a serving pod is left, and it is too early for it."""
    for place, fault in enumerate(deck):
        if fault is not Fault.SERVING_POD or is_late_enough:
            return deck.pop(place)
    return None
