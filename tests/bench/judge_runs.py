"""Put the runs of a cell before every judge, and calibrate thresholds on the same traffic."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.bench.judge_cells import BY_NAME, Cell, twin
from tests.bench.judge_ours import Ours, cumulated, role_windows
from tests.bench.judge_peers import (
    ARGO_FAILURES,
    ARGO_STEP_WINDOWS,
    ARGO_WEIGHTS,
    COMMON,
    CONTINUE,
    FLAGGER_STRIKES,
    FLAGGER_WEIGHTS,
    PROMOTE,
    TOOLS,
    Limits,
    Readings,
    Usual,
    fails,
)
from tests.bench.judge_traffic import (
    HISTORY,
    WINDOWS,
    Floats,
    Ints,
    Role,
    Traffic,
    Weather,
    canary_pods,
    draw_canary,
    draw_stable,
)
from tests.bench.judge_traffic import Window as Minute

OURS = "ours"
TUNED = "tuned"
BLOCK = 50
"""Runs that are drawn together; each block has its own seed, so that more runs repeat the first ones."""
SEED = 11
CALIBRATION_SEED = 12
CALIBRATION_RUNS = 500
BUDGET = 0.01
EXCEEDED = (0.01, 0.005, 0.002, 0.0)
"""Shares of runs in which a reading may exceed a metric's limit once too often."""
STRIKES = {"Flagger": FLAGGER_STRIKES, "Argo": ARGO_FAILURES + 1}
CHECKS = {
    "Flagger": len(FLAGGER_WEIGHTS) + FLAGGER_STRIKES - 1,
    "Argo": len(ARGO_WEIGHTS) * ARGO_STEP_WINDOWS,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run.

    ``windows`` counts from the first canary request to the decision, ``exposed`` is the share of an
    hour's requests that the new version answered, 0..1.
    """

    outcome: str
    """promote, rollback or undecided."""
    windows: int
    minutes: int
    exposed: float
    canary_requests: int


@dataclass(slots=True)
class Block:
    """Runs of one cell with their weather and stable's history, before anything is judged."""

    cell: Cell
    seed: tuple[int, ...]
    weather: Weather
    minutes: list[Minute]
    history: list[Role]
    """By pod, increments of buckets."""

    @classmethod
    def of(cls, cell: Cell, number: int, runs: int, seed: int) -> "Block":
        """Draw block *number* of a cell."""
        key = (seed, zlib.crc32(cell.name.encode()), number)
        chance = np.random.default_rng((*key, 0))
        weather = Weather.of(chance, runs, cell.traffic.pod_spread)
        minutes = cell.windows()
        everyone, nothing = np.arange(runs), np.zeros(runs, dtype=np.int64)
        history = [
            draw_stable(chance, cell.traffic, weather, minutes[t], t, nothing, everyone)
            for t in range(HISTORY)
        ]
        return cls(cell, key, weather, minutes, history)

    @property
    def runs(self) -> int:
        """Return how many runs there are."""
        return len(self.weather.load)

    def chance(self, judge: str) -> np.random.Generator:
        """Return the source of chance for the runs as *judge* leads them."""
        return np.random.default_rng((*self.seed, zlib.crc32(judge.encode())))


@dataclass(slots=True)
class _Log:
    """What is written down while runs go on."""

    weights: Floats
    """(run, window), in percent; after the decision what serves then."""
    requests: Ints
    decided_at: Ints
    outcomes: list[str]

    @classmethod
    def of(cls, runs: int) -> "_Log":
        return cls(
            np.zeros((runs, WINDOWS)),
            np.zeros((runs, WINDOWS), dtype=np.int64),
            np.full(runs, WINDOWS, dtype=np.int64),
            ["undecided"] * runs,
        )

    def decide(self, run: int, t: int, outcome: str) -> None:
        self.outcomes[run] = outcome
        self.decided_at[run] = t + 1
        self.weights[run, t + 1 :] = 100 if outcome == "promote" else 0

    def runs(self, block: Block) -> list[Run]:
        arrivals = np.array([minute.arrivals for minute in block.minutes[HISTORY:]])
        exposed = (self.weights / 100) @ arrivals / arrivals.sum()
        out = []
        for run, outcome in enumerate(self.outcomes):
            seen = np.flatnonzero(self.requests[run])
            end = int(self.decided_at[run])
            first = int(seen[0]) if len(seen) else end
            total = int(self.requests[run].sum())
            out.append(Run(outcome, end - first, end, float(exposed[run]), total))
        return out


def judged(name: str, number: int, runs: int, tuned: Mapping[str, Limits]) -> dict[str, list[Run]]:
    """Return what became of the runs of one block, by judge; *tuned* has limits by tool."""
    block = Block.of(BY_NAME[name], number, runs, SEED)
    out = {OURS: ours(block)}
    usual = Usual.of(block.history)
    for tool in TOOLS:
        for setting, limits in {**COMMON, TUNED: tuned[tool]}.items():
            out[f"{tool} {setting}"] = peer(block, usual, tool, setting, limits)
    return out


def ours(block: Block) -> list[Run]:
    """Lead the runs of a block with the product's judge and machine."""
    history = [cumulated(row) for row in block.history]
    rollouts = [Ours.of(history, run) for run in range(block.runs)]
    chance, log = block.chance(OURS), _Log.of(block.runs)
    going = list(range(block.runs))
    for t in range(WINDOWS):
        minute, index = block.minutes[HISTORY + t], np.array(going)
        weights = np.array([rollouts[run].weight for run in going], dtype=np.int64)
        args = (chance, block.cell.traffic, block.weather, minute, HISTORY + t, weights, index)
        stable, canary = draw_stable(*args).summed(), draw_canary(*args).summed()
        log.weights[index, t], log.requests[index, t] = weights, canary.requests
        pods = canary_pods(weights).tolist()
        rows = zip(
            role_windows(stable, [block.weather.pods.shape[1] // 2] * len(going)),
            role_windows(canary, pods),
            strict=True,
        )
        for run, (left, right) in zip(going, rows, strict=True):
            rollouts[run].close(t, *((None, None) if minute.is_away else (left, right)))
            outcome = rollouts[run].outcome
            if outcome:
                log.decide(run, t, outcome)
        going = [run for run in going if log.outcomes[run] == "undecided"]
        if not going:
            break
    return log.runs(block)


def peer(block: Block, usual: Usual, tool: str, setting: str, limits: Limits) -> list[Run]:
    """Lead the runs of a block with a peer's rules."""
    rules = TOOLS[tool](block.runs)
    chance, log, readings = (
        block.chance(f"{tool} {setting}"),
        _Log.of(block.runs),
        Readings(usual, limits.windows),
    )
    everyone, is_going = np.arange(block.runs), np.ones(block.runs, dtype=bool)
    for t in range(WINDOWS):
        minute = block.minutes[HISTORY + t]
        weights = np.where(is_going, rules.weights, 0)
        canary = draw_canary(
            chance, block.cell.traffic, block.weather, minute, HISTORY + t, weights, everyone
        ).summed()
        log.weights[is_going, t] = weights[is_going]
        log.requests[:, t] = canary.requests
        read = readings.read(canary)
        failed = np.zeros(read.shape, dtype=bool) if minute.is_away else fails(read, limits)
        word = rules.close(failed, is_away=minute.is_away)
        for run in np.flatnonzero(is_going & (word != CONTINUE)):
            log.decide(int(run), t, "promote" if word[run] == PROMOTE else "rollback")
        is_going &= word == CONTINUE
        if not is_going.any():
            break
    return log.runs(block)


def calibrate(traffic: Traffic) -> dict[str, Limits]:
    """Return for each tool the tightest limits with which it rolls back at most 1 % of equal versions.

    Each metric has a limit of its own, which its readings on this very traffic exceed equally seldom.
    """
    block = Block.of(twin(traffic), 0, CALIBRATION_RUNS, CALIBRATION_SEED)
    usual = Usual.of(block.history)
    return {tool: _tightest(block, usual, tool) for tool in TOOLS}


def _tightest(block: Block, usual: Usual, tool: str) -> Limits:
    """Try ever wider limits: what few runs exceed in as many windows as it takes, then in fewer."""
    highest = _highest(block, usual, tool)
    limits = COMMON["cal"]
    for windows, exceeded in product(range(STRIKES[tool], 0, -1), EXCEEDED):
        most = np.quantile(highest[-windows], 1 - exceeded, axis=0, method="higher")
        limits = Limits(limits.windows, *most.tolist())
        rolled_back = sum(run.outcome == "rollback" for run in peer(block, usual, tool, TUNED, limits))
        if rolled_back <= BUDGET * block.runs:
            break
    return limits


def _highest(block: Block, usual: Usual, tool: str) -> Floats:
    """Return (window, run, metric): what the checks read while none fails, ascending by window."""
    rules = TOOLS[tool](block.runs)
    chance, readings = block.chance(tool), Readings(usual, COMMON["cal"].windows)
    out, nothing = [], np.zeros((block.runs, 3), dtype=bool)
    for t in range(HISTORY, HISTORY + CHECKS[tool]):
        canary = draw_canary(
            chance,
            block.cell.traffic,
            block.weather,
            block.minutes[t],
            t,
            rules.weights,
            np.arange(block.runs),
        )
        read = readings.read(canary.summed())
        out.append(np.where(np.isnan(read), np.inf, read))
        rules.close(nothing, is_away=False)
    return np.sort(np.stack(out), axis=0)
