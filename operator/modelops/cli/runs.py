"""The runs of a service from one version to the next, as its status remembers them."""

from collections.abc import Mapping
from typing import Any

from modelops.cli.troubles import status
from modelops.plan import Manifest

ROLES = ("stable", "candidate", "rejected")
OUTCOMES: Mapping[str, str] = {
    "Serving": "Serving",
    "Promoted": "Promoted",
    "PromotedByPerson": "Promoted",
    "RolledBack": "RolledBack",
    "Aborted": "Aborted",
    "Superseded": "Superseded",
    "Reverted": "Reverted",
}
"""What became of a run, by the type of the entry that tells it; a later one overrules an earlier one."""


def told(service: Mapping[str, Any]) -> Manifest:
    """Return everything about the rollouts of *service*: the run there is now, and all known, oldest first.

    ``runs`` reaches as far back as status.history does: its last 20 entries.
    """
    meta, seen = service["metadata"], status(service)
    now = {role: seen[role] for role in ROLES if role in seen}
    name = {"service": {"namespace": meta.get("namespace"), "name": meta["name"]}}
    return {**name, **(seen.get("rollout") or {}), **now, "runs": runs(service)}


def runs(service: Mapping[str, Any]) -> list[Manifest]:
    """Return each run with its steps, its decisions and what people asked of it."""
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for entry in status(service).get("history") or ():
        if entry.get("runId"):
            by_run.setdefault(str(entry["runId"]), []).append(entry)
    return [_run(run_id, entries) for run_id, entries in by_run.items()]


def _run(run_id: str, entries: list[Mapping[str, Any]]) -> Manifest:
    outcome = next((OUTCOMES[e["type"]] for e in reversed(entries) if e["type"] in OUTCOMES), "Running")
    return {
        "runId": run_id,
        "version": entries[0].get("version"),
        "outcome": outcome,
        "since": entries[0]["time"],
        "until": entries[-1]["time"],
        "steps": [_step(entry) for entry in entries if entry["type"] == "WeightChanged"],
        "decisions": [_decision(entry) for entry in entries if entry["type"] in OUTCOMES],
        "actions": [_action(entry) for entry in entries if entry.get("actor")],
        "transitions": [_transition(entry) for entry in entries],
    }


def _step(entry: Mapping[str, Any]) -> Manifest:
    return {"time": entry["time"], "weight": entry.get("weight", 0), "reason": entry.get("reason")}


def _decision(entry: Mapping[str, Any]) -> Manifest:
    return _picked(entry, "time", "type", "reason", "evidence")


def _action(entry: Mapping[str, Any]) -> Manifest:
    return {
        "time": entry["time"],
        "action": entry.get("action"),
        "by": entry["actor"]["name"],
        **_picked(entry, "approves"),
    }


def _transition(entry: Mapping[str, Any]) -> Manifest:
    return _picked(entry, "seq", "time", "type", "from", "to")


def _picked(entry: Mapping[str, Any], *names: str) -> Manifest:
    return {name: entry[name] for name in names if name in entry}
