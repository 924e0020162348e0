"""Show one service: what serves it and where, who approved that, how the last run ended, what is not fine."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from modelops.cli import picture, troubles
from modelops.cli.overview import listed, short
from modelops.cli.screen import BOLD, Screen, age
from modelops.cli.table import Column, table
from modelops.cli.troubles import condition, status

_REVISIONS = (
    Column("REVISION"),
    Column("ROLE"),
    Column("VERSION"),
    Column("DIGEST", keep=6),
    Column("ENGINE", keep=3, is_optional=True),
    Column("NODE", keep=4, is_optional=True),
    Column("ON", keep=2, is_optional=True),
    Column("WHEN", keep=5, is_optional=True),
)


def detail(
    service: Mapping[str, Any],
    versions: Sequence[Mapping[str, Any]],
    screen: Screen,
    now: datetime,
) -> list[str]:
    """Return the picture of one service; *versions* are those of its namespace."""
    meta, seen = service["metadata"], status(service)
    ready = condition(service, "Ready")
    head = f"{meta['namespace']}/{meta['name']}"
    lines = [
        screen.paint(head, BOLD) + f", {age(meta.get('creationTimestamp'), now)} old",
        _row(
            "ready", f"{screen.word(ready.get('status', 'Unknown'))} ({ready.get('reason', 'not looked at')})"
        ),
        _row("address", seen.get("url") or "none"),
        _row("pods", f"{seen.get('pods', '0/0')} ready"),
    ]
    rows = _revisions(service, now)
    if rows:
        lines += ["", *table(_REVISIONS, rows, screen)]
    if seen.get("stable"):
        lines += ["", *screen.wrap(picture.traffic(service, screen), _row("traffic", ""))]
    lines += _sentences(service, screen, now)
    lines += _approvals(service, versions, screen)
    involved = [version for version in versions if version["metadata"]["name"] in _involved(service)]
    return lines + listed(troubles.of_all([service, *involved]), screen)


def _row(label: str, text: str) -> str:
    return f"{label:<{picture.LABEL}}{text}"


def _sentences(service: Mapping[str, Any], screen: Screen, now: datetime) -> list[str]:
    """Return where it was placed and the last decision about a run."""
    seen = status(service)
    plan = (seen.get("placement") or {}).get("plan") or {}
    rollout = seen.get("rollout") or {}
    lines = []
    if plan.get("message"):
        lines += screen.wrap(plan["message"], _row("placement", ""))
    if rollout.get("message"):
        when = f" ({age(rollout['phaseAt'], now)} ago)" if rollout.get("phaseAt") else ""
        lines += screen.wrap(f"{rollout.get('phase')}{when}: {rollout['message']}", _row("decision", ""))
    return ["", *lines] if lines else []


def _revisions(service: Mapping[str, Any], now: datetime) -> list[list[str]]:
    seen = status(service)
    rollout = seen.get("rollout") or {}
    records = {r["hash"]: r for r in (seen.get("placement") or {}).get("revisions") or ()}
    roles = (("stable", seen), ("candidate", seen), ("previous", rollout))
    rows = [
        _revision(holder[role], role, records.get(holder[role].get("hash"), {}), "-")
        for role, holder in roles
        if holder.get(role)
    ]
    for mark in reversed(seen.get("rejected") or ()):
        rows.append(_revision(mark, "rejected", {}, f"{age(mark.get('at'), now)} ago"))
    return rows


def _revision(role: Mapping[str, Any], name: str, record: Mapping[str, Any], since: str) -> list[str]:
    place = record.get("placement") or {}
    gpus = f"{place['gpus']} x {place.get('product') or 'GPU'}" if place.get("gpus") else "-"
    return [
        role.get("hash", "-"),
        name,
        role.get("version") or "-",
        short(role.get("artifactDigest") or record.get("digest")),
        record.get("engine") or "-",
        place.get("node") or "-",
        gpus,
        since,
    ]


def _involved(service: Mapping[str, Any]) -> list[str]:
    """Return the versions that it serves, is to serve or wants."""
    seen = status(service)
    roles: Iterable[Mapping[str, Any]] = (seen.get(role) or {} for role in ("stable", "candidate"))
    wanted = ((service.get("spec") or {}).get("model") or {}).get("version")
    names = [*(role.get("version") for role in roles), seen.get("model"), wanted]
    return list(dict.fromkeys(name for name in names if name))


def _approvals(
    service: Mapping[str, Any], versions: Sequence[Mapping[str, Any]], screen: Screen
) -> list[str]:
    by_name = {version["metadata"]["name"]: version for version in versions}
    lines: list[str] = []
    for name in _involved(service):
        rows = (status(by_name.get(name, {})).get("approval") or {}).get("environments") or ()
        for row in rows:
            lines += screen.wrap(_approval(name, row), _row("approvals" if not lines else "", ""))
    return ["", *lines] if lines else []


def _approval(name: str, row: Mapping[str, Any]) -> str:
    who = f" ({', '.join(row['approvers'])})" if row.get("approvers") else ""
    until = f", until {row['expiresAt']}" if row.get("expiresAt") else ""
    needed = row.get("needed", 0)
    have = f"{row.get('have', 0)} of {needed}{who}" if needed else "none needed"
    return f"{name} for {row['name']}: {have}{until}, {'approved' if row.get('approved') else 'not approved'}"
