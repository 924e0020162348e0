"""Read a golden case: the cluster that it shows to the operator, and the plan as text."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelops.controllers.execute import applied_hash
from modelops.controllers.observations import REFUSED
from modelops.controllers.store import Key
from modelops.plan import Event, Manifest, Plan, Reason, ref
from tests.serving.cluster import SETTINGS, Cluster, Traffic
from tests.serving.situations import GOLDEN, read_objects, text

CASES = sorted(path.parent for path in GOLDEN.glob("*/given.yaml"))


def cluster_of(case: Path, settings: Mapping[str, Any] | None = None) -> tuple[Cluster, Key]:
    """Return the cluster of a case, as an operator sees it that has just started, and the root to plan."""
    given = read_objects(case)
    cluster = Cluster(
        settings or given.get("settings", SETTINGS), gate_is_green=given.get("gate") != "not proven"
    )
    cluster.server.now = _instant(given["now"])
    for obj in given["objects"]:
        cluster.server.load(obj)
        cluster.show(obj)
    if "traffic" in given:
        said = given["traffic"]
        away = said.get("awaySince")
        cluster.traffic = Traffic(said["stable"], said["canary"], _instant(away) if away else None)
    cluster.measure()
    kind, _, place = given["root"].partition(" ")
    namespace, _, name = place.rpartition("/")
    root = Key(kind, namespace, name)
    if "refused" in given:
        cluster.observations.put(root, REFUSED, Reason(*given["refused"]))
    cluster.keys.clear()
    return cluster, root


def plan_of(cluster: Cluster, root: Key) -> Plan | None:
    """Return the plan, without carrying it out; None: the object is left alone."""
    kind = cluster.roots[root.kind]
    seen = kind.gather(root, cluster.reading(root))
    return None if seen is None else kind.plan(seen, cluster.now)


def printed(cluster: Cluster, plan: Plan | None) -> str:
    """Return the whole plan as text, the instant as ``<now>``.

    A child that is stored with the hash of the very same manifest stands as unchanged, by name.
    """
    now = cluster.now
    if plan is None:
        return "null\n"
    out: Manifest = {
        "status": plan.status,
        "unchanged": [str(ref(child)) for child in plan.apply if is_stored(cluster, child)],
        "apply": [child for child in plan.apply if not is_stored(cluster, child)],
        **(
            {"patch": [{"object": str(p.ref), "operations": list(p.operations)} for p in plan.patch]}
            if plan.patch
            else {}
        ),
        "delete": [str(gone) for gone in plan.delete],
        "events": [_event(event) for event in plan.events],
        "after": None if plan.after is None else f"{plan.after.total_seconds():g} s",
    }
    shown = text(_plain(out))
    for form in (now.isoformat().replace("+00:00", "Z"), f"{now:%Y-%m-%dT%H:%M:%SZ}"):
        shown = shown.replace(f"'{form}'", "<now>").replace(form, "<now>")
    return shown


def _event(event: Event) -> Manifest:
    out = {key: value for key, value in asdict(event).items() if value is not None}
    return out | ({"lasted": f"{event.lasted.total_seconds():g} s"} if event.lasted is not None else {})


def is_stored(cluster: Cluster, child: Manifest) -> bool:
    """Tell whether the executor would leave the child as it is."""
    meta = child["metadata"]
    row = cluster.store.get(child["kind"], meta.get("namespace"), meta["name"])
    return row is not None and row.applied_hash == applied_hash(child)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _instant(given: Any) -> datetime:
    if isinstance(given, datetime):
        return given if given.tzinfo else given.replace(tzinfo=UTC)
    return datetime.fromisoformat(given)
