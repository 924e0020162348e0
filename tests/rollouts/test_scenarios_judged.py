"""Scenarios over the judge and the machine: counts of requests go in, the state of the run comes out."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelops.analysis.frozen import History, freeze
from modelops.analysis.judge import judge
from modelops.analysis.samples import PodSeries, RoleWindow, Scrapes, Window, align
from modelops.analysis.settings import Metric, Mode, Settings
from modelops.analysis.verdict import Verdict
from modelops.rollouts.machine import advance
from modelops.rollouts.state import Phase
from tests.rollouts.world import NOW, V1, V2, World, at, pushed

BOUNDS = {"ttft": (0.1, 0.25, 0.5, 1.0, math.inf)}
USUAL = (0.05, 0.6, 0.85, 0.99, 1.0)
SLOW = (0.01, 0.2, 0.45, 0.8, 1.0)
FASTER = (0.12, 0.75, 0.93, 0.997, 1.0)
"""USUAL, each request a fifth faster."""
SETTINGS = Settings(metrics=(Metric("errors"), Metric("ttft")))
MINUTE = 60.0
WARM = SETTINGS.warmup.total_seconds()


def role(requests: int, errors: int = 0, shape: Sequence[float] = USUAL) -> RoleWindow:
    return RoleWindow(4, requests, errors, {"ttft": tuple(round(requests * share) for share in shape)})


FROZEN = freeze(History((role(400, 1),) * 30, BOUNDS))


def window(number: int, canary: RoleWindow, stable: RoleWindow | None = None, begins: float = WARM) -> Window:
    start = begins + MINUTE * number
    return Window(start, start + MINUTE, stable or role(400), canary, weight=50.0)


def said(windows: Sequence[Window], settings: Settings = SETTINGS, *, at_last_step: bool = True) -> Verdict:
    """Return the judge's word on windows that are counted from NOW, at a step whose dwell is served."""
    began = NOW.timestamp()
    moved = [replace(w, start=w.start + began, end=w.end + began) for w in windows]
    return judge(settings, FROZEN, moved, started_at=began, at_last_step=at_last_step, dwell_served=True)


def heard(world: World, verdict: Verdict, seconds: int = 120) -> World:
    """Let the machine hear *verdict* for a while, some time after its last window."""
    world.said = verdict
    world.now = max(world.now, NOW + timedelta(hours=2))
    return world.run(seconds)


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["NaN", "Inf"])
def test_s35_a_value_that_is_no_number_is_missing_data_and_the_message_says_so(value: float) -> None:
    def series(revision: str, values: Sequence[float]) -> PodSeries:
        labels = {"modelops_revision": revision, "pod": revision, "instance": revision}
        return PodSeries(labels, tuple((30.0 * i + WARM, v) for i, v in enumerate(values)))

    scrapes = Scrapes(
        requests=[series("s", (0, 100, 200)), series("c", (0, value, 200))],
        errors=[[series("s", (0, 0, 0)), series("c", (0, 0, 0))]],
    )
    bad = align(
        scrapes, stable="s", canary="c", origin=WARM, until=WARM + MINUTE, window=MINUTE, step=MINUTE / 2
    )
    world = at(50)

    verdict = said(bad, Settings(metrics=(Metric("errors"),)))
    heard(world, verdict, 600)

    assert "found none; the weight stays until they are there" in verdict.message
    assert (world.state.phase, world.share(V2), world.state.rejected) == (Phase.PROGRESSING, 50, ())


def test_s37_a_metric_that_only_reports_is_recorded_and_decides_nothing() -> None:
    settings = replace(SETTINGS, metrics=(Metric("errors"), Metric("ttft", Mode.REPORT)))
    slower = [window(i, role(400, 0, SLOW)) for i in range(12)]
    world = at(50)

    verdict = said(slower, settings)
    heard(world, verdict, 5)

    assert world.state.phase in (Phase.PROMOTING, Phase.BAKING, Phase.STABLE)
    (told, *_) = [row for row in verdict.to_status()["metrics"] if row["name"] == "ttft"]
    assert (told["weight"], told["verdict"], told["n"]["canary"] > 0) == (0.0, "Worse", True)
    assert said(slower).name == "Rollback", "the same numbers roll back when the metric decides"


def test_s38_what_was_slow_in_the_warm_up_counts_for_nothing() -> None:
    cold = [window(i, role(400, 200, SLOW), begins=0.0) for i in range(2)]
    warm = [window(i, role(400)) for i in range(12)]

    assert said([*cold, *warm]) == said(warm)
    assert said([*cold, *warm]).name == "Promote"


def test_s41_one_metric_that_fails_rolls_back_at_once_whatever_the_others_say() -> None:
    world = at(50)
    slower = [window(i, role(400, 0, SLOW)) for i in range(4)]

    heard(world, said(slower), 1)

    assert world.state.phase is Phase.ROLLING_BACK
    assert world.state.message.startswith("chat: ttft over ")
    world.said = said([window(i, role(400)) for i in range(12)])
    assert world.until(Phase.ROLLED_BACK).state.stable == V1


def test_s44_errors_that_hit_both_versions_alike_roll_nothing_back() -> None:
    world = at(50)
    sick = [window(i, role(400, 20), role(400, 20)) for i in range(12)]

    heard(world, said(sick), 300)

    assert (world.share(V2), world.state.rejected) == (50, ())


def test_s45_a_faster_version_is_promoted_and_never_too_different() -> None:
    world = at(50)
    faster = [window(i, role(400, 0, FASTER)) for i in range(12)]

    heard(world, said(faster), 5)

    assert world.state.stable == V2
    assert all(said(faster[:n]).name in ("Continue", "Promote") for n in range(1, 13))


def test_s46_half_of_few_requests_failing_rolls_back_within_three_windows() -> None:
    """5 requests/s and 5 % for the candidate: 15 requests a window, 285 of stable."""
    runs, late = 200, 0
    for seed in range(runs):
        chance = random.Random(seed)
        counts = [(_drawn(chance, 15, 0.5), _drawn(chance, 285, 0.003)) for _ in range(3)]
        windows = [window(i, role(15, bad), role(285, usual)) for i, (bad, usual) in enumerate(counts)]
        found = [said(windows[: n + 1], at_last_step=False).name for n in range(3)]
        late += "Rollback" not in found
    assert late <= runs // 100


def _drawn(chance: random.Random, trials: int, share: float) -> int:
    return sum(chance.random() < share for _ in range(trials))


WORSE = [window(i, role(400, 40)) for i in range(4)]
EQUAL = [window(i, role(400)) for i in range(12)]


@pytest.mark.parametrize(
    ("windows", "event", "evidence", "bar"),
    [
        pytest.param(WORSE, "RolledBack", "evidence", "bar 100:1", id="rolled back"),
        pytest.param(EQUAL, "Promoted", "certificate", "bar 20:1", id="promoted"),
    ],
)
def test_s47_a_decision_names_metric_values_counts_evidence_and_bar(
    windows: list[Window], event: str, evidence: str, bar: str
) -> None:
    world = at(50)

    verdict = said(windows)
    heard(world, verdict, 1)

    (told,) = [e.message for e in world.told if e.reason == event]
    requests = 400 * len(windows)
    for part in (" vs ", f"(n={requests}, ", evidence, bar):
        assert part in told
    assert world.state.message == told
    assert any(f"{shares(row)} (n={requests}, {requests})" in told for row in verdict.to_status()["metrics"])


def shares(row: Mapping[str, Any]) -> str:
    """Return both values of a row of status as messages tell them."""
    canary, _, over = str(row["canary"]).partition(" over ")
    return (
        f"{row['name']}{' over ' + over if over else ''} {canary} vs {row['stable'].partition(' over ')[0]}"
    )


def test_s47_a_step_names_what_was_seen_until_then() -> None:
    world = pushed()
    step_at = world.state.step_at
    assert step_at is not None
    verdict = said(EQUAL[:2], at_last_step=False)
    world.said = replace(verdict, until=(step_at + timedelta(minutes=5)).timestamp())

    step = advance(world.state, world.seen(), step_at + timedelta(minutes=6))

    (told,) = [e.message for e in step.events if e.reason == "WeightChanged"]
    for part in ("chat-2 at 50 %", "errors 0% vs 0% (n=800, ", "evidence of a regression", "of 20:1"):
        assert part in told
