"""The account of the overhead: what is whose, and that parts add up to the whole."""

import pytest

from e2e.overhead import GOAL_SECONDS, STEPS, account, parts

INSTANTS = dict(
    zip(
        (name for name, _ in STEPS),
        (100.0, 100.2, 100.5, 100.6, 100.7, 102.7, 104.7, 105.0, 101.0, 105.3),
        strict=True,
    )
)


def test_the_engines_own_start_is_taken_off():
    found = parts(INSTANTS)
    assert found["whole"] == pytest.approx(5.3)
    assert found["ownStart"] == pytest.approx(2.0)
    assert found["overhead"] == pytest.approx(3.3)


def test_a_step_that_came_early_took_no_time_and_the_parts_add_up():
    found = parts(INSTANTS)
    assert found["routed"] == 0.0
    assert sum(found[name] for name, _ in STEPS[1:]) == pytest.approx(found["whole"])


@pytest.mark.parametrize(("more", "met"), [(0.0, True), (GOAL_SECONDS, False)])
def test_the_goal_is_about_the_median(more: float, met: bool):
    found = parts(INSTANTS)
    slow = {**found, "overhead": found["overhead"] + more}
    assert account([found, slow, slow])["met"] is met
