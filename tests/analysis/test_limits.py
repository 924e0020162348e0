"""The canary against fixed limits: the law of its evidence, and what is decided with nothing beside it."""

import math
import random
from dataclasses import replace

import pytest

from modelops.analysis.evidence import above_terms, below_terms, interval, mixture
from modelops.analysis.frozen import History, freeze
from modelops.analysis.judge import judge
from modelops.analysis.samples import RoleWindow, Window
from modelops.analysis.settings import Baseline, Confidence, Metric, Settings

BOUNDS = {"ttft": (0.1, 0.25, 0.5, 1.0, math.inf)}
FAST = (0.05, 0.6, 0.85, 0.99, 1.0)
SLOW = (0.01, 0.2, 0.45, 0.8, 1.0)
ALONE = Settings(metrics=(Metric("errors"), Metric("ttft")), baseline=Baseline.NONE)
BESIDE = replace(ALONE, baseline=Baseline.STABLE)
FACTORS = (1.15, 2.0, 30.0)
SLACK = 1 + 1e-9


def role(requests, errors=0, shape=FAST, pods=4):
    row = tuple(round(requests * share) for share in shape)
    return RoleWindow(pods, requests, errors, {"ttft": row})


IDLE = role(0)
FROZEN = freeze(History((role(400, 1),) * 30, BOUNDS))


def windows(*canaries, stable=None, first=0):
    start = 120.0 + 60 * first
    return [
        Window(start + 60 * i, start + 60 * i + 60, stable or role(200), canary)
        for i, canary in enumerate(canaries)
    ]


def decided(seen, settings=ALONE, **more):
    options = {"started_at": 0.0, "at_last_step": True, "dwell_served": True, **more}
    return judge(settings, FROZEN, seen, **options)


# --- the law -----------------------------------------------------------------------------------------


def mean(trials, share, value):
    """Return the mean of *value* over every possible count, each with its exact probability."""
    chances = (
        math.comb(trials, bad) * share**bad * (1 - share) ** (trials - bad) for bad in range(trials + 1)
    )
    return math.fsum(chance * value(bad) for bad, chance in enumerate(chances))


@pytest.mark.parametrize("limit", [0.0, 1e-4, 0.01, 0.3, 0.8, 0.97, 0.99, 1.0])
@pytest.mark.parametrize("trials", [1, 7, 60])
def test_a_share_up_to_its_limit_gathers_no_evidence_of_harm(limit, trials):
    for part in (1.0, 0.9, 0.5, 0.1, 0.0):
        found = mean(trials, limit * part, lambda bad: mixture(above_terms(bad, trials, limit, FACTORS)))
        assert found <= SLACK + (1e-6 if limit == 0 else 0)


@pytest.mark.parametrize("limit", [0.0, 1e-4, 0.01, 0.3, 0.97, 1.0, 1.7])
@pytest.mark.parametrize("trials", [1, 7, 60])
def test_a_share_from_its_limit_up_gathers_no_certificate(limit, trials):
    guesses = [limit * factor for factor in (0.02, 0.5, 1.0, 1.5)]
    for share in {min(1.0, limit + more) for more in (0.0, 0.01, 0.2, 1.0)}:
        found = mean(trials, share, lambda bad: mixture(below_terms(bad, trials, limit, guesses)))
        assert found <= SLACK


@pytest.mark.parametrize(
    ("bad", "trials", "wanted"),
    [
        pytest.param(90, 100, (0.8256, 0.9448), id="a high share"),
        pytest.param(0, 20, (0.0, 0.1611), id="none of a few"),
        pytest.param(0, 0, (0.0, 1.0), id="no trials say nothing"),
    ],
)
def test_an_interval_is_the_published_one(bad, trials, wanted):
    assert interval(bad, trials, 1.959964) == pytest.approx(wanted, abs=5e-5)


def test_an_equal_version_is_not_accused_though_little_is_known_of_stable():
    """200 requests in the hour before, which is the least that has a shape; 200 runs, fixed seed."""
    chance, accused = random.Random(5), 0
    for _ in range(200):
        frozen = freeze(History((drawn(chance, 200),), BOUNDS), dispersions={"errors": 1.0, "ttft": 1.0})
        seen = windows(*(drawn(chance, 100) for _ in range(10)), stable=IDLE)
        verdict = judge(
            BESIDE, frozen, seen, started_at=0.0, at_last_step=False, dwell_served=True, switched_at=0.0
        )
        accused += verdict.robust >= 100
    assert accused <= 0.01 * 200


def drawn(chance, requests):
    """Return a window whose requests fall into the buckets as FAST says, by chance; 0.3 % fail."""
    row = [0] * len(FAST)
    for _ in range(requests):
        value = chance.random()
        row[next(k for k, share in enumerate(FAST) if value < share)] += 1
    counts = tuple(sum(row[: k + 1]) for k in range(len(row)))
    return RoleWindow(4, requests, sum(chance.random() < 0.003 for _ in range(requests)), {"ttft": counts})


# --- what is decided ---------------------------------------------------------------------------------

GOOD, FAILING, LATE = role(200), role(200, 12), role(200, shape=SLOW)


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        pytest.param(windows(*[GOOD] * 8), "Promote", id="within every limit, and enough to prove it"),
        pytest.param(windows(*[role(20)] * 3), "Continue", id="too few requests to prove anything"),
        pytest.param(windows(*[FAILING] * 4), "Rollback", id="fails more than the SLO"),
        pytest.param(windows(*[LATE] * 4), "Rollback", id="slower than is acceptable"),
        pytest.param(
            windows(*[FAILING] * 8, stable=role(200, 12)),
            "Continue",
            id="everybody fails: no word",
        ),
    ],
)
def test_requests_that_were_chosen_are_held_to_limits(seen, wanted):
    assert decided(seen).name == wanted


def test_the_message_names_the_share_and_the_limit_that_decided():
    verdict = decided(windows(*[FAILING] * 4))
    assert verdict.message == "errors 6% (n=800), limit 1%, evidence 3.4e6:1, bar 100:1"
    errors = verdict.to_status()["metrics"][0]
    assert (errors["canary"], errors["limit"], errors["n"]) == ("6%", "1%", {"canary": 800})
    assert "stable" not in errors


def test_stable_beside_it_decides_nothing_when_requests_were_chosen():
    quick = role(4000, shape=(0.99, 1.0, 1.0, 1.0, 1.0))
    beside, alone = (decided(windows(*[GOOD] * 8, stable=stable)) for stable in (quick, role(200)))
    assert [beside.evidence, beside.certificate] == [alone.evidence, alone.certificate]


def test_what_went_before_the_switch_neither_accuses_nor_excuses_what_bakes():
    before = windows(*[GOOD] * 30)
    baking = windows(FAILING, FAILING, stable=IDLE, first=30)
    both = decided([*before, *baking], BESIDE, at_last_step=False, switched_at=baking[0].start)
    alone = decided(baking, BESIDE, at_last_step=False, switched_at=baking[0].start)
    assert (both.name, both.robust) == ("Rollback", alone.robust)


def test_a_window_that_began_before_the_switch_is_compared_with_stable():
    seen = windows(FAILING, FAILING)
    verdict = decided(seen, BESIDE, at_last_step=False, switched_at=seen[1].start + 1)
    assert verdict.robust == 1.0


def test_half_of_all_requests_that_fail_end_the_bake_in_one_window():
    verdict = decided(windows(role(60, 30), stable=IDLE), BESIDE, at_last_step=False, switched_at=0.0)
    assert verdict.name == "Rollback"
    assert "bar 1e6:1 for a single window" in verdict.message


def test_nothing_that_bakes_is_promoted_again():
    assert decided(windows(*[GOOD] * 9, stable=IDLE), BESIDE, at_last_step=False, switched_at=0.0).name == (
        "Continue"
    )


def test_a_history_that_is_short_grows_by_stables_own_windows_first():
    empty = freeze(History((), BOUNDS))
    seen = windows(*[LATE] * 6)
    verdict = judge(ALONE, empty, seen, started_at=0.0, at_last_step=True, dwell_served=True)
    ttft = [row for row in verdict.metrics if row.name == "ttft"]
    assert ttft[0].n_canary == 6 * 200  # stable's first window has the 200 requests that a shape needs
    assert verdict.name == "Rollback"


@pytest.mark.parametrize("settings", [ALONE, BESIDE])
def test_a_summary_goes_on_by_limits_when_windows_are_gone(settings):
    seen = windows(GOOD, role(200, 4), role(200, 6), role(200, 5), stable=IDLE)
    whole = decided(seen, settings, at_last_step=False, switched_at=0.0)
    before = decided(seen[:3], settings, at_last_step=False, switched_at=0.0)
    after = decided(seen[3:], settings, at_last_step=False, switched_at=0.0, carry=before.carry)
    assert after.to_status() == whole.to_status()


def test_a_smaller_budget_needs_more_evidence():
    seen = windows(role(200, 6), role(200, 6))
    usual = decided(seen)
    strict = decided(seen, replace(ALONE, confidence=Confidence(false_rollback=1e-9)))
    assert (usual.rollback_at, strict.name) == (100.0, "Continue")
