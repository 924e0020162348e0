"""Every picture, drawn for 80 letters, for a log, and for a terminal that knows only ASCII."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from modelops.analysis.verdict import Cause, MetricVerdict, Outcome, Verdict
from modelops.cli import picture
from modelops.cli.detail import detail
from modelops.cli.overview import overview
from modelops.cli.places import places
from modelops.cli.screen import Screen
from modelops.placement.learned import Learned
from modelops.placement.memory import Verdict as FitVerdict
from modelops.placement.placed import Placement, Rejected
from modelops.plan import Reason
from modelops.rollouts.state import Pause, Phase, Revision, Rollout, to_status

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder for folder in GOLDEN.iterdir() if (folder / "given.yaml").exists())
SCREENS = {"80": Screen(80), "log": Screen(None), "ascii": Screen(60, has_unicode=False)}


def _draw(given, screen):
    services, versions = given.get("services", []), given.get("versions", [])
    now = given.get("now", datetime(2026, 3, 1, 12, tzinfo=UTC))
    match given["view"]:
        case "overview":
            where = "all namespaces" if given.get("everywhere") else "quickstart"
            return overview(
                *(services, versions, where, screen, now),
                is_everywhere=given.get("everywhere", False),
                nodes=given.get("nodes", ()),
            )
        case "detail":
            return detail(services[0], versions, screen, now)
        case "rollout":
            return picture.picture(services[0], given.get("steps", ()), screen, now)
        case "explain":
            return places(services[0], screen)
    raise AssertionError(given["view"])


def _given(case):
    return yaml.safe_load((GOLDEN / case / "given.yaml").read_text())


@pytest.mark.parametrize("name", list(SCREENS))
@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_the_picture_is_the_golden_one(case, name, update_golden):
    text = "\n".join(_draw(_given(case), SCREENS[name])) + "\n"
    path = GOLDEN / case / f"{name}.txt"
    if update_golden:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", ["80", "ascii"])
@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_no_line_is_longer_than_the_screen(case, name):
    lines = (GOLDEN / case / f"{name}.txt").read_text().splitlines()
    assert [line for line in lines if len(line) > SCREENS[name].width] == []


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_ascii_is_enough_for_every_picture(case):
    assert (GOLDEN / case / "ascii.txt").read_text().isascii()


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_without_colours_a_picture_is_the_same_text(case):
    plain = _draw(_given(case), Screen(80))
    painted = _draw(_given(case), Screen(80, has_colour=True))
    assert [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in painted] == [line.rstrip() for line in plain]


def _rollout(case):
    given = _given(case)
    return given["services"][0], given.get("steps", ())


@pytest.mark.parametrize(
    ("case", "text"),
    [
        pytest.param(
            "rollout-in-the-middle", "Progressing step 3/4 25%: chat: chat-2 at 25 %: e", id="a step"
        ),
        pytest.param("rollout-goes-back", "RollingBack 50%: chat: errors 21% vs 0.5%", id="going back"),
        pytest.param("rollout-is-over", "RolledBack: chat: errors 21% vs 0.5%", id="rolled back"),
        pytest.param("rollout-takes-over", "Baking: chat: errors 0.31% vs 0.29%", id="baking"),
        pytest.param("rollout-waits-for-approval", "AwaitingApproval 0%: chat-2: needs 1 app", id="waiting"),
        pytest.param("rollout-of-nothing", "Stable: quickstart/chat: nothing serves yet", id="nothing"),
    ],
)
def test_a_log_gets_one_line_for_every_change(case, text):
    assert picture.line(*_rollout(case)).startswith(text)


@pytest.mark.parametrize(
    ("case", "ended"),
    [
        pytest.param("rollout-in-the-middle", False, id="a step"),
        pytest.param("rollout-waits-for-approval", False, id="waiting for people"),
        pytest.param("rollout-takes-over", False, id="the old version is still there"),
        pytest.param("rollout-is-over", True, id="rolled back"),
        pytest.param("rollout-of-nothing", False, id="the operator has not looked"),
    ],
)
def test_a_run_has_ended_when_nothing_moves(case, ended):
    assert picture.has_ended(_rollout(case)[0]) is ended


def test_a_run_has_not_ended_while_a_newer_spec_waits():
    service, _ = _rollout("rollout-is-over")
    service["metadata"]["generation"] += 1
    assert not picture.has_ended(service)


# --- the operator's own shapes -----------------------------------------------------------------------


def test_the_picture_reads_what_the_judge_writes():
    row = MetricVerdict("ttft", 0.5, 1.0, 1210, 3630, 0.123, 0.119, 0.9, 0.7, 13.1, 20.0)
    verdict = Verdict(Outcome.CONTINUE, Cause.UNDECIDED, "goes on", 0.9, 0.7, 13.1, 100.0, 20.0, (row,))
    state = Rollout(
        phase=Phase.PAUSED,
        stable=Revision("aaaa1111", "chat-1"),
        candidate=Revision("bbbb2222", "chat-2"),
        run_id="8c1f00aa11bb",
        paused_for=frozenset({Pause.USER}),
        step=1,
        weight=50,
        accepted=50,
        message="paused by a person",
    )
    memory = to_status(state)
    status = {role: memory.pop(role) for role in ("stable", "candidate")}
    service = {
        "metadata": {"name": "chat", "namespace": "ns", "generation": 1},
        "status": status | {"rollout": memory | {"analysis": verdict.to_status()}},
    }
    text = "\n".join(picture.picture(service, (20, 50), Screen(None), datetime(2026, 3, 1, tzinfo=UTC)))
    assert "ns/chat: chat-1 → chat-2" in text
    assert "Paused (User), run 8c1f00aa11bb" in text
    assert "● 20%  ◉ 50%  ○ 100%" in text
    assert "chat-1 50%, chat-2 50%" in text
    row = next(line for line in text.splitlines() if line.startswith("ttft"))
    words = ["ttft over 0.5s", "12.3%", "11.9%", "1210 vs 3630", "0.7 of 100", "13.1 of 20", "Undecided"]
    assert re.split(r" {2,}", row) == words
    assert "0.7 to 1; holds at 4, steps back at 20, rolls back at 100" in text
    assert "13.1 to 1; promotes at 20" in text


def test_the_explanation_reads_what_placement_writes():
    refused = Rejected("n2", "NVIDIA-L40S", Reason("GpuTooSmall", "n2: too small; take another"))
    plan = Placement(
        "n1", "NVIDIA-H200", 1, 151397597184, 2048, 32, FitVerdict.FITS, None, "on n1", (refused,)
    )
    service = {
        "metadata": {"name": "chat", "namespace": "ns"},
        "spec": {"model": {"version": "chat-1"}},
        "status": {"placement": {"plan": plan.to_status()}},
    }
    lines = places(service, Screen(None))
    assert "chosen     on n1" in lines
    assert "✗ n2: too small; take another" in lines


def test_what_an_engine_measured_stands_beside_what_was_planned():
    learned = Learned("b1", "chat-1", "vLLM", "NVIDIA-H100", 1, 300_000, 380_000, 420_000, 3 * 2**30)
    service = {
        "metadata": {"name": "chat", "namespace": "ns"},
        "spec": {"model": {"version": "chat-2"}, "accelerator": {"nodes": 2, "count": 8}},
        "status": {"placement": {"plan": {}, "measured": [learned.to_status()]}},
    }
    lines = places(service, Screen(None))
    assert "asked for  chat-2, engine Auto, 8 x GPU on each of 2 nodes" in lines
    assert (
        "measured   300000 tokens of cache by vLLM with chat-1 on 1 x NVIDIA-H100, planned 380000 to 420000; "
        "27 % outside of it; the next plan of the same kind reckons with it"
    ) in lines


@pytest.mark.parametrize(
    ("accelerator", "told"),
    [
        ({"partition": "1g.10gb"}, "a slice 1g.10gb of a GPU"),
        ({"partition": "1g.10gb", "products": ["NVIDIA-H100"]}, "a slice 1g.10gb of NVIDIA-H100"),
        ({"sharing": "Exclusive"}, "the fewest GPUs that fit, sharing Exclusive"),
    ],
)
def test_slices_and_shares_that_were_asked_for_are_told(accelerator, told):
    service = {
        "metadata": {"name": "chat", "namespace": "ns"},
        "spec": {"model": {"version": "chat-1"}, "accelerator": accelerator},
    }
    assert f"asked for  chat-1, engine Auto, {told}" in places(service, Screen(None))


def test_every_phase_of_a_run_has_a_place():
    ended = {"Stable", "RolledBack"}
    assert {phase.value for phase in Phase} == picture.RUNNING | ended
