"""Each alert fires and keeps silent as its cases say: promtool runs Prometheus' own rule engine."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import binaries
from tests.alerts.rules import CASES, groups, rules


def promtool(*args: str | Path) -> subprocess.CompletedProcess[str]:
    program = binaries.ensure("prometheus") / "promtool"
    return subprocess.run([program, *args], capture_output=True, text=True, check=False)


def case(alert: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return one case in promtool's words: of this alert exactly one fires, or none."""
    rule = rules()[alert]
    fires = []
    if "says" in given:
        labels = rule["labels"] | given.get("labels", {})
        annotations = {"summary": given["says"], "runbook": rule["annotations"]["runbook"]}
        fires = [{"exp_labels": labels, "exp_annotations": annotations}]
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in given["series"].items()],
        "alert_rule_test": [{"eval_time": given["at"], "alertname": alert, "exp_alerts": fires}],
    }


def test_every_alert_fires_when_it_should_and_at_no_other_time(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    tests = [case(alert, given) for alert, pair in CASES.items() for given in pair.values()]
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    done = promtool("test", "rules", tmp_path / "tests.yaml")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_a_case_that_does_not_hold_is_found(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    for alert, kind in (("ModelOpsNoLeader", "fires"), ("ModelOpsTwoLeaders", "silent")):
        given = dict(CASES[alert][kind]) | {"at": "1m"}
        if kind == "silent":
            given |= {"says": "something"}
        whole = {"rule_files": ["rules.yaml"], "tests": [case(alert, given)]}
        (tmp_path / "tests.yaml").write_text(yaml.safe_dump(whole))
        assert promtool("test", "rules", tmp_path / "tests.yaml").returncode != 0


def test_prometheus_finds_nothing_to_blame_in_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
