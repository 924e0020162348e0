"""Simulate the traffic of a service and its canary, many runs at once.

Arrays are (run, pod) or (run, pod, bucket); times are windows of 60 seconds, the history's first.
Source: research/rollouts.md 8.2.  Here a canary has the pods that Surge gives it, and a cell may couple
latency to load.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from modelops.rollouts.capacity import candidate_pods
from modelops.rollouts.state import Rollout

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PODS = 8
WINDOWS = 60
HISTORY = 60
WINDOW_SECONDS = 60
TTFT_BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
TPOT_BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
TTFT_MEDIAN, TTFT_SIGMA = 0.35, 0.6
TAIL_MEDIAN, TAIL_SIGMA = 3.0, 0.5
TPOT_MEDIAN, TPOT_SIGMA = 0.025, 0.25
BUSY = 0.6
"""Share of a pod's capacity that a cell with coupled latency uses before the run."""
_GRID = np.linspace(-8.0, 8.0, 16001)
_PHI = np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in _GRID])


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of a cell is like; factors are multiples of the usual, shares 0..1."""

    arrivals: float = 1.0
    slowness: float = 1.0
    """Latency factor of both roles."""
    incident: float = 0.0
    """Error share that both roles have at least."""
    is_away: bool = False
    """Whether Prometheus does not answer."""
    ttft: float = 1.0
    tpot: float = 1.0
    errors: float = 0.003
    tail: float = 0.01
    """The last four are the canary's own."""


QUIET = Window()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What does not change in a run."""

    rate: float = 5.0
    """Requests per second of the whole service."""
    pod_spread: float = 0.05
    is_coupled: bool = False
    """Whether latency depends on the requests per second of a pod."""


@dataclass(slots=True)
class Role:
    """Counts of a role, by run and pod; the histograms are increments of buckets, not cumulative."""

    requests: Ints
    errors: Ints
    ttft: Ints
    tpot: Ints

    def summed(self) -> "Role":
        """Return the same summed over the pods."""
        return Role(*(counts.sum(axis=1) for counts in (self.requests, self.errors, self.ttft, self.tpot)))


@dataclass(slots=True)
class Weather:
    """What the runs of a block have by chance, whoever judges them."""

    pods: Floats
    """Latency of each pod, the first PODS stable's: (run, 2 PODS), logarithms."""
    load: Floats
    mood: Floats
    """Shared by all pods: (run, HISTORY + WINDOWS), logarithms."""
    jitter: Floats = field(repr=False)
    error_jitter: Floats = field(repr=False)
    """Of each pod and window: (run, HISTORY + WINDOWS, 2 PODS), logarithms."""

    @classmethod
    def of(cls, chance: np.random.Generator, runs: int, pod_spread: float) -> "Weather":
        """Draw the weather of *runs* runs."""
        length = HISTORY + WINDOWS
        load = np.empty((runs, length))
        load[:, 0] = chance.normal(0, 0.10, runs)
        for t in range(1, length):
            load[:, t] = 0.9 * load[:, t - 1] + chance.normal(0, 0.10 * math.sqrt(1 - 0.81), runs)
        return cls(
            pods=chance.normal(0, pod_spread, (runs, 2 * PODS)),
            load=load,
            mood=chance.normal(0, 0.3, (runs, length)),
            jitter=chance.normal(0, 0.05, (runs, length, 2 * PODS)),
            error_jitter=chance.normal(0, 0.2, (runs, length, 2 * PODS)),
        )


def canary_pods(weights: Ints) -> Ints:
    """Return the pods that Surge gives a canary at each weight in percent; none at 0."""
    return np.array(
        [candidate_pods(Rollout(capacity=int(w)), PODS) if w else 0 for w in weights], dtype=np.int64
    )


def draw_stable(
    chance: np.random.Generator,
    traffic: Traffic,
    weather: Weather,
    window: Window,
    t: int,
    weights: Ints,
    runs: Ints,
) -> Role:
    """Return what stable did in the window at index *t*, which counts from the history's first.

    *runs* are indices into the weather, *weights* the percent that each of them sends to the canary.
    """
    calls = traffic.rate * WINDOW_SECONDS * window.arrivals
    mean = calls * (1 - weights / 100) / PODS
    busy = mean / (traffic.rate * WINDOW_SECONDS / PODS)
    means = np.repeat(mean[:, None], PODS, axis=1)
    return _role(chance, traffic, weather, _as_stable(window), t, runs, slice(0, PODS), means, busy)


def draw_canary(
    chance: np.random.Generator,
    traffic: Traffic,
    weather: Weather,
    window: Window,
    t: int,
    weights: Ints,
    runs: Ints,
) -> Role:
    """Return what the canary did in the window at index *t*, as ``draw_stable`` does."""
    counts = canary_pods(weights)
    calls = traffic.rate * WINDOW_SECONDS * window.arrivals
    mean = calls * (weights / 100) / np.maximum(1, counts)
    busy = mean / (traffic.rate * WINDOW_SECONDS / PODS)
    most = max(1, int(counts.max(initial=0)))
    has_pod = np.arange(most)[None, :] < counts[:, None]
    means = np.where(has_pod, mean[:, None], 0.0)
    return _role(chance, traffic, weather, window, t, runs, slice(PODS, PODS + most), means, busy)


def _as_stable(window: Window) -> Window:
    """Return *window* as stable has it: without what is the canary's own."""
    return replace(window, ttft=QUIET.ttft, tpot=QUIET.tpot, errors=QUIET.errors, tail=QUIET.tail)


def _role(
    chance: np.random.Generator,
    traffic: Traffic,
    weather: Weather,
    window: Window,
    t: int,
    runs: Ints,
    pods: slice,
    means: Floats,
    busy: Floats,
) -> Role:
    requests = chance.poisson(means)
    shared = weather.load[runs, t][:, None] + math.log(window.slowness)
    pod = weather.pods[runs, pods]
    jitter = weather.jitter[runs, t, pods]
    queueing, batching = _coupling(busy) if traffic.is_coupled else (np.zeros_like(busy), np.zeros_like(busy))
    ttft = math.log(TTFT_MEDIAN * window.ttft) + shared + pod + jitter + queueing[:, None]
    tpot = math.log(TPOT_MEDIAN * window.tpot) + 0.5 * shared + pod + 0.5 * jitter + batching[:, None]
    mood = 0.5 * weather.mood[runs, t][:, None] + weather.error_jitter[runs, t, pods]
    bad = np.clip(max(window.errors, window.incident) * np.exp(mood), 0, 0.99)
    return Role(
        requests,
        chance.binomial(requests, bad),
        _buckets(chance, requests, ttft, TTFT_SIGMA, TTFT_BOUNDS, window.tail),
        _buckets(chance, requests, tpot, TPOT_SIGMA, TPOT_BOUNDS, 0.0),
    )


def _coupling(busy: Floats) -> tuple[Floats, Floats]:
    """Return the logarithms by which a pod's first token and later tokens take longer.

    *busy* is its requests over those before the run.  The wait for a first token grows as in a queue,
    the time per token with the size of the batch.
    """
    left = np.maximum(0.05, 1 - BUSY * busy)
    return np.log((1 - BUSY) / left), np.log(0.5 + 0.5 * busy)


def _buckets(
    chance: np.random.Generator,
    requests: Ints,
    log_median: Floats,
    sigma: float,
    bounds: Sequence[float],
    tail: float,
) -> Ints:
    logs = np.log(np.asarray(bounds))
    below = np.interp((logs - log_median[..., None]) / sigma, _GRID, _PHI)
    if tail:
        far = np.interp((logs - math.log(TAIL_MEDIAN)) / TAIL_SIGMA, _GRID, _PHI)
        below = (1 - tail) * below + tail * far
    shares = np.diff(below, prepend=0.0, append=1.0, axis=-1)
    return chance.multinomial(requests, np.clip(shares, 0.0, 1.0))
