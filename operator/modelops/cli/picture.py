"""Draw a rollout from the status of its service: steps, traffic, numbers of both versions, evidence."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelops.analysis.verdict import CERTAIN
from modelops.cli.screen import BOLD, Screen, age
from modelops.cli.table import Column, table
from modelops.cli.troubles import status

RUNNING = frozenset(
    {
        "AwaitingApproval", "Starting", "Progressing", "Paused", "Promoting", "Baking", "RollingBack",
        "Reverting", "Superseding",
    }
)  # fmt: skip
"""Phases in which a run goes on; in the others, Stable and RolledBack, it has ended."""
AT_A_STEP = frozenset({"Progressing", "Paused"})
UNDONE = frozenset({"RollingBack", "RolledBack", "Reverting", "Superseding"})
BAR_CELLS = 30
EVIDENCE_CELLS = 12
LABEL = 10


def has_ended(service: Mapping[str, Any]) -> bool:
    """Return whether nothing moves any more: the newest spec was looked at, and no run goes on."""
    seen: int = status(service).get("observedGeneration", -1)
    rollout = status(service).get("rollout") or {}
    return seen >= service["metadata"].get("generation", 0) and rollout.get("phase", "Stable") not in RUNNING


def picture(service: Mapping[str, Any], steps: Sequence[int], screen: Screen, now: datetime) -> list[str]:
    """Return the picture of the run; *steps* are the policy's weights in percent, empty when not known."""
    rollout = status(service).get("rollout") or {}
    lines = [screen.paint(_title(service, screen), BOLD), *_phase(rollout, screen, now)]
    if _is_shown(rollout):
        lines += screen.wrap(_steps(rollout, steps, screen), _row("steps", ""))
        lines += screen.wrap(traffic(service, screen), _row("traffic", ""))
        sent = senders(service)
        lines += screen.wrap(sent, _row("route", "")) if sent else []
    analysis = rollout.get("analysis") or {}
    if analysis:
        lines += ["", *_metrics(analysis, screen), "", *_evidence(analysis, screen)]
    if rollout.get("message"):
        lines += ["", *screen.wrap(rollout["message"])]
    return lines


def line(service: Mapping[str, Any], steps: Sequence[int]) -> str:
    """Return the run in one line, for logs; equal while nothing changes."""
    rollout = status(service).get("rollout") or {}
    phase, at = rollout.get("phase", "Stable"), ""
    if status(service).get("candidate"):
        at = f" {(rollout.get('traffic') or {}).get('observed') or 0}%"
    if phase in AT_A_STEP:
        step = rollout.get("step") or {}
        at = f" step {step.get('index', 0) + 1}/{len(steps) or step.get('of', 0)}{at}"
    return f"{phase}{at}: {rollout.get('message') or _title(service, Screen())}"


def traffic(service: Mapping[str, Any], screen: Screen) -> str:
    """Return the bar of how requests are shared now, by the accepted route."""
    seen = status(service)
    stable, candidate = (seen.get(role) or {} for role in ("stable", "candidate"))
    shares = (seen.get("rollout") or {}).get("traffic") or {}
    cells = BAR_CELLS if screen.width is None else max(10, min(BAR_CELLS, screen.width - 50))
    if not stable:
        return f"{screen.bar(0, cells)}  nothing serves yet"
    given = (shares.get("observed") or 0) if candidate else 0
    text = f"{screen.bar(1 - given / 100, cells, 'half')}  {stable.get('version')} {100 - given}%"
    if candidate:
        text += f", {candidate.get('version')} {given}%"
    wanted = shares.get("desired", 0)
    if candidate and wanted != given:
        text += f" (wanted {wanted}%, not accepted yet)"
    if shares.get("measured") is not None:
        text += f", measured {shares['measured']:g}%" + (" (not as wanted)" if shares.get("mismatch") else "")
    if candidate and shares.get("effective") is not None:
        text += f", {shares['effective']:g}% by ready pods"
    return text


def senders(service: Mapping[str, Any]) -> str:
    """Return what sends the requests, and what it does beside shares; empty: the status does not say."""
    seen = status(service)
    shares = (seen.get("rollout") or {}).get("traffic") or {}
    told = [_sender(by) for by in shares.get("by") or ()]
    version = (seen.get("candidate") or {}).get("version")
    if version and shares.get("mirror"):
        told.append(f"copies of {shares['mirror']}% to {version}")
    if version and shares.get("matched"):
        told.append(f"matched requests to {version}")
    return "; ".join(told)


def _sender(by: Mapping[str, Any]) -> str:
    whose = " (yours)" if by.get("yours") else ""
    return f"{by.get('kind')} {by.get('name')}{whose}" + (
        ", not accepted yet" if by.get("accepted") is False else ""
    )


# --- lines -------------------------------------------------------------------------------------------


def _row(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}"


def _title(service: Mapping[str, Any], screen: Screen) -> str:
    meta, seen = service["metadata"], status(service)
    where = f"{meta['namespace']}/{meta['name']}"
    stable, candidate = (seen.get(role) or {} for role in ("stable", "candidate"))
    rollout = seen.get("rollout") or {}
    if candidate:
        before = stable.get("version") or "nothing"
        return f"{where}: {before} {screen.mark('arrow')} {candidate.get('version')}"
    if rollout.get("phase") == "Baking":
        before = (rollout.get("previous") or {}).get("version") or "nothing"
        return f"{where}: {before} {screen.mark('arrow')} {stable.get('version')}"
    if rollout.get("phase") == "RolledBack" and seen.get("rejected"):
        return (
            f"{where}: {stable.get('version')} stays, {seen['rejected'][-1].get('version')} was rolled back"
        )
    return f"{where}: {stable['version']} serves, no run" if stable else f"{where}: nothing serves yet"


def _phase(rollout: Mapping[str, Any], screen: Screen, now: datetime) -> list[str]:
    phase = rollout.get("phase", "Stable")
    parts = [phase]
    if rollout.get("pausedFor"):
        parts[0] += f" ({', '.join(rollout['pausedFor'])})"
    if rollout.get("phaseAt"):
        parts[0] += f" for {age(rollout['phaseAt'], now)}"
    if rollout.get("runId") and _is_shown(rollout):
        parts.append(f"run {rollout['runId']}")
        if rollout.get("startedAt"):
            parts.append(f"started {age(rollout['startedAt'], now)} ago")
    first, *more = screen.wrap(", ".join(parts), _row("phase", ""))
    return [first.replace(phase, screen.word(phase), 1), *more]


def _is_shown(rollout: Mapping[str, Any]) -> bool:
    return bool(rollout.get("phase", "Stable") != "Stable")


def _steps(rollout: Mapping[str, Any], weights: Sequence[int], screen: Screen) -> str:
    step = rollout.get("step") or {}
    count = len(weights) or step.get("of", 0)
    names = [f"{weight}%" for weight in weights] or [f"step {n + 1}" for n in range(count)]
    at = _position(rollout, count)
    failed = rollout.get("phase") in UNDONE
    here = "failed" if failed else "here"
    marks = ["done" if i < at else here if i == at else "ahead" for i in range(count + 1)]
    return "  ".join(
        f"{screen.mark(mark)} {name}" for mark, name in zip(marks, [*names, "100%"], strict=True)
    )


def _position(rollout: Mapping[str, Any], count: int) -> int:
    """Return the index of the step that it is at; -1 before the first, *count* for all requests."""
    match rollout.get("phase"):
        case "AwaitingApproval" | "Starting":
            return -1
        case "Promoting":
            return count
        case "Baking":
            return count + 1
        case _:
            index: int = (rollout.get("step") or {}).get("index", 0)
            return index


# --- numbers -----------------------------------------------------------------------------------------

_COLUMNS = (
    Column("METRIC"),
    Column("CANDIDATE", is_right=True),
    Column("STABLE", is_right=True),
    Column("REQUESTS", is_right=True),
    Column("EVIDENCE", keep=8, is_right=True),
    Column("PROOF", keep=7, is_right=True),
    Column("VERDICT", keep=5),
)


def _metrics(analysis: Mapping[str, Any], screen: Screen) -> list[str]:
    field, bar = _deciding(analysis.get("evidence") or {})
    rows = [_metric(row, field, bar) for row in analysis.get("metrics") or ()]
    return table(_COLUMNS, rows, screen) if rows else ["no metric has numbers yet"]


def _deciding(evidence: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return which evidence decides, and its bar: all of it where one window alone is overwhelming."""
    bar = evidence.get("rollbackAt")
    is_certain = evidence.get("regression", 0.0) >= CERTAIN and evidence.get("robust", 0.0) < (
        bar or math.inf
    )
    return ("regression", CERTAIN) if is_certain else ("robust", bar)


def _metric(row: Mapping[str, Any], field: str, bar: float | None) -> list[str]:
    canary, _, over = str(row.get("canary", "-")).partition(" over ")
    n = row.get("n") or {}
    certificate = row.get("certificate")
    return [
        f"{row.get('name')} over {over}" if over else str(row.get("name")),
        canary,
        _held_to(row),
        f"{n.get('canary', 0)} vs {n['stable']}" if "stable" in n else str(n.get("canary", 0)),
        _of(row.get(field, row.get("regression")), bar),
        "-" if certificate is None else _of(certificate, row.get("promoteAt")),
        row.get("verdict", "-") if row.get("weight", 1) else "reported",
    ]


def _held_to(row: Mapping[str, Any]) -> str:
    """Return stable's number, or the limit where no stable version runs beside it."""
    limit = str(row.get("limit", "")).partition(" over ")[0]
    return f"limit {limit}" if limit else str(row.get("stable", "-")).partition(" over ")[0]


def _of(value: float | None, bar: float | None) -> str:
    if value is None:
        return "-"
    return brief(value) if bar is None else f"{brief(value)} of {_short(bar)}"


def _short(bar: float) -> str:
    return f"{bar:g}".replace("e+0", "e")


def brief(value: float) -> str:
    """Return an e-value in at most three digits before it needs a power of ten."""
    if value >= 1000:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    return f"{value:.3g}" if value >= 0.001 else "0"


def _evidence(analysis: Mapping[str, Any], screen: Screen) -> list[str]:
    evidence, proof = analysis.get("evidence") or {}, analysis.get("certificate") or {}
    field, deciding = _deciding(evidence)
    harm = evidence.get(field, evidence.get("regression"))
    lines: list[str] = []
    if harm is not None:
        bars = [
            (evidence.get("holdAt"), "holds at"),
            (evidence.get("stepBackAt"), "steps back at"),
            (evidence.get("rollbackAt"), "rolls back at"),
        ]
        told = ", ".join(f"{word} {_short(bar)}" for bar, word in bars if bar is not None)
        if deciding == CERTAIN:
            told = f"a single window rolls back at {_short(CERTAIN)}"
        lines += _scale("evidence", harm, deciding, told, screen)
    if proof.get("value") is not None:
        told = f"promotes at {proof['promoteAt']:g}" if proof.get("promoteAt") else ""
        lines += _scale("proof", proof["value"], proof.get("promoteAt"), told, screen)
    return lines


def _scale(label: str, value: float, bar: float | None, told: str, screen: Screen) -> list[str]:
    """Return how far *value* is on the way from 1 to *bar*, by powers: evidence multiplies."""
    share = math.log(max(value, 1.0)) / math.log(bar) if bar and bar > 1 else 0.0
    bar_ = screen.bar(min(share, 1.0), EVIDENCE_CELLS)
    return screen.wrap(f"{bar_}  {brief(value)} to 1; {told}", _row(label, ""))
