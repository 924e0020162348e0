"""What stands in the alerts; that they fire when they should is tested by promtool, in tests/integration."""

import pytest

from tests.alerts.rules import CASES, FILES, OUTSIDE, TARGET, exported, groups, names_in, parsed, rules


def test_every_file_is_one_of_the_charts_and_names_are_unique():
    assert {path.stem for path in FILES} == {"governance", "nodes", "operator", "services"}
    names = [rule["alert"] for group in groups() for rule in group["rules"]]
    assert len(names) == len(set(names)) >= 30


@pytest.mark.parametrize("alert", rules())
def test_an_alert_says_how_bad_it_is_what_happened_and_what_to_do(alert):
    rule = rules()[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    summary, runbook = rule["annotations"]["summary"], rule["annotations"]["runbook"]
    assert summary.endswith(".")
    assert runbook.endswith(".")
    assert runbook.count(".") >= 2, "what it means, and what to do"
    assert "{{" not in runbook, "the runbook is the same whenever it fires"


@pytest.mark.parametrize("alert", rules())
def test_every_metric_that_an_alert_reads_is_exported(alert):
    found = names_in(rules()[alert]["expr"])
    assert found
    assert found <= set(exported())


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent():
    assert list(CASES) == [
        alert for path in ("operator", "governance", "services", "nodes") for alert in of(path)
    ]
    for case in CASES.values():
        assert set(case) == {"fires", "silent"}
        assert set(case["silent"]) == {"series", "at"}


def of(stem: str) -> list[str]:
    (group,) = (group for group in groups() if group["name"] == f"modelops-{stem}")
    return [rule["alert"] for rule in group["rules"]]


@pytest.mark.parametrize("alert", CASES)
def test_the_series_of_a_case_have_the_labels_that_the_programs_give_them(alert):
    known = exported()
    for case in CASES[alert].values():
        for series in case["series"]:
            name, labels = parsed(series)
            assert name in OUTSIDE or known[name] <= labels, series
            assert name in OUTSIDE or labels <= known[name] | TARGET, series
