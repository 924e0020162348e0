"""Tell figures of the whole fleet at each scrape: services, rollouts, versions, approvals, GPUs.

Only the leader has them.  They are read from the rows that are there anyway, so they cannot drift from
what is stored; only the outcomes of rollouts are counted as they happen.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelops.controllers.context import GATE, GATE_TOPIC
from modelops.controllers.observations import Observations
from modelops.controllers.own_rows import ApprovalRow, ServiceRow, VersionRow
from modelops.controllers.store import Row, Store
from modelops.governance.countersign import GateState
from modelops.placement.inventory import Inventory
from modelops.rollouts.state import Phase

HELD = (Phase.PAUSED, Phase.AWAITING_APPROVAL, Phase.ROLLED_BACK)
"""Phases in which a rollout waits for a person."""
RETREAT = (Phase.ROLLING_BACK, Phase.REVERTING)
OUTCOMES = ("FirstServed", "Promoted", "RolledBack", "Superseded", "Paused")
GATE_STATES = ("Enforced", "NotEnforced", "NotProven")
_READY = ("True", "False", "Unknown")
_SERVICE = ("service_namespace", "service_name")
"""Not ``namespace`` and ``service``: Prometheus gives those to the pod that it scrapes."""

R = TypeVar("R", bound=Row)


def outcome(before: Row, after: Row) -> str | None:
    """Return what the rollout of a service came to between two versions of it, if to anything."""
    if not isinstance(before, ServiceRow) or not isinstance(after, ServiceRow):
        return None
    if after.phase in RETREAT and before.phase not in RETREAT:
        return "RolledBack"
    if after.stable != before.stable and after.stable and after.phase not in RETREAT:
        return "Promoted" if before.stable else "FirstServed"
    if after.phase != before.phase and after.phase in (Phase.SUPERSEDING, Phase.PAUSED):
        return "Superseded" if after.phase == Phase.SUPERSEDING else "Paused"
    return None


class Figures:
    """A collector of the leader's figures."""

    def __init__(
        self, store: Store, observations: Observations, stock: Callable[[], Inventory] | None = None
    ) -> None:
        """*stock* returns what nodes have and what pods take of it."""
        self._store = store
        self._observations = observations
        self._stock = stock
        self._counted = Counter(dict.fromkeys(OUTCOMES, 0))

    def changed(self, before: Row, after: Row) -> None:
        """Count what a change of a stored object means."""
        if (found := outcome(before, after)) is not None:
            self._counted[found] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every family, as a registry of metrics does."""
        yield from (self._services(), self._unready(), self._unplaced())
        yield from (self._rollouts(), self._held(), self._outcomes())
        yield from (self._versions(), self._broken())
        yield from (self._approvals(), self._ignored(), self._gate())
        yield from self._nodes()

    # --- services ------------------------------------------------------------------------------------

    def _rows(self, kind: str, type_: type[R]) -> Iterator[R]:
        return (row for row in self._store.rows(kind) if isinstance(row, type_))

    def _all_services(self) -> Iterator[ServiceRow]:
        return self._rows("InferenceService", ServiceRow)

    def _services(self) -> Metric:
        found = Counter(row.ready for row in self._all_services())
        return _counts(
            "modelops_inferenceservices",
            "InferenceServices by their condition Ready.",
            "ready",
            found,
            _READY,
        )

    def _unready(self) -> Metric:
        told = GaugeMetricFamily(
            "modelops_inferenceservice_unready_since_timestamp_seconds",
            "Since when an InferenceService is not ready; a ready one has no series.",
            labels=(*_SERVICE, "reason"),
        )
        for row in self._all_services():
            if row.unready_since:
                _add(told, (row.namespace, row.name, row.unready_reason), row.unready_since)
        return told

    def _unplaced(self) -> Metric:
        found = Counter(row.unplaced for row in self._all_services() if row.unplaced)
        return _counts(
            "modelops_inferenceservices_unplaced",
            "InferenceServices whose wanted version has no place, by why.",
            "reason",
            found,
            ("WaitingForCapacity",),
        )

    def _rollouts(self) -> Metric:
        found = Counter(row.phase for row in self._all_services() if row.phase)
        return _counts(
            "modelops_rollouts",
            "InferenceServices by the phase of their rollout.",
            "phase",
            found,
            tuple(Phase),
        )

    def _held(self) -> Metric:
        told = GaugeMetricFamily(
            "modelops_rollout_held_since_timestamp_seconds",
            "Since when a rollout waits for a person, by its phase; one that goes on has no series.",
            labels=(*_SERVICE, "phase"),
        )
        for row in self._all_services():
            if row.phase in HELD and row.phase_at:
                _add(told, (row.namespace, row.name, row.phase), row.phase_at)
        return told

    def _outcomes(self) -> Metric:
        told = CounterMetricFamily(
            "modelops_rollout_outcomes", "What rollouts came to while this replica led.", labels=("outcome",)
        )
        for name in OUTCOMES:
            told.add_metric((name,), self._counted[name])
        return told

    # --- versions and approvals ----------------------------------------------------------------------

    def _versions(self) -> Metric:
        found = Counter(row.phase for row in self._rows("ModelVersion", VersionRow) if row.phase)
        return _counts("modelops_modelversions", "ModelVersions by phase.", "phase", found, ("Quarantined",))

    def _broken(self) -> Metric:
        told = GaugeMetricFamily(
            "modelops_modelversion_unproven_since_timestamp_seconds",
            "Since when no node has proven the bytes of a ModelVersion that failed on one.",
            labels=("version_namespace", "version_name"),
        )
        for row in self._rows("ModelVersion", VersionRow):
            if row.broken_since:
                _add(told, (row.namespace, row.name), row.broken_since)
        return told

    def _approvals(self) -> Metric:
        told = GaugeMetricFamily(
            "modelops_modelapprovals",
            "ModelApprovals by whether the gate vouches for them, and why.",
            labels=("trust", "reason"),
        )
        rows = self._rows("ModelApproval", ApprovalRow)
        for (trust, reason), count in sorted(Counter((row.trust, row.reason) for row in rows).items()):
            told.add_metric((trust, reason), count)
        return told

    def _ignored(self) -> Metric:
        rows = self._rows("ModelVersion", VersionRow)
        found = Counter(code for row in rows for code in row.ignored)
        return _counts(
            "modelops_modelapprovals_ignored",
            "ModelApprovals that do not count for their version, by why.",
            "reason",
            found,
            ("OwnVersion",),
        )

    def _gate(self) -> Metric:
        found = self._observations.get(GATE, GATE_TOPIC)
        state = gate_state(found if isinstance(found, GateState) else GateState())
        told = GaugeMetricFamily(
            "modelops_approval_gate",
            "1 for what the last self-test of the approval gate found, 0 for the others.",
            labels=("state",),
        )
        for name in GATE_STATES:
            told.add_metric((name,), float(name == state))
        return told

    # --- nodes ---------------------------------------------------------------------------------------

    def _nodes(self) -> Iterator[Metric]:
        inventory = self._stock() if self._stock else Inventory()
        ready = GaugeMetricFamily(
            "modelops_node_ready", "1 when pods may start on the node now, else 0.", labels=("node_name",)
        )
        for node in inventory.nodes:
            ready.add_metric((node.name,), float(node.can_run_pods))
        yield ready
        families = tuple(
            GaugeMetricFamily(f"modelops_gpus_{what}", text, labels=("resource", "product"))
            for what, text in (
                ("allocatable", "GPUs, shares or slices that nodes offer to pods, by product."),
                ("requested", "GPUs, shares or slices that pods on nodes have asked for, by product."),
                ("free", "GPUs, shares or slices that the operator would give to a new pod, by product."),
                (
                    "unhealthy",
                    "GPUs, shares or slices that a node offers though they are broken, by product.",
                ),
            )
        )
        sums: dict[tuple[str, str], list[int]] = {}
        for node in inventory.nodes:
            for device in node.devices:
                if device.gpu is None:
                    continue
                name = device.resource
                free = node.free(name) if node.can_run_pods else 0
                broken = node.health[name].broken if name in node.health else 0
                seen = (node.total(name), node.used.get(name, 0), free, broken)
                known = sums.setdefault((name, device.gpu.product), [0] * len(seen))
                known[:] = [a + b for a, b in zip(known, seen, strict=True)]
        for labels, counts in sorted(sums.items()):
            for family, count in zip(families, counts, strict=True):
                family.add_metric(labels, count)
        yield from families


def gate_state(state: GateState) -> str:
    """Return the gate's state in a word: not proven is not the same as open."""
    if state.is_green:
        return "Enforced"
    return "NotEnforced" if state.fault is not None and state.fault.code == "GateNotEnforced" else "NotProven"


def _counts(
    name: str, text: str, label: str, found: Mapping[str, int], always: tuple[str, ...]
) -> GaugeMetricFamily:
    """Return one gauge by *label*; the values of *always* have a series at zero too."""
    told = GaugeMetricFamily(name, text, labels=(label,))
    for value in sorted({*found, *always}):
        told.add_metric((value,), found.get(value, 0))
    return told


def _add(told: GaugeMetricFamily, labels: tuple[str, ...], since: str) -> None:
    """Add the Unix time of an instant as Kubernetes prints it; what is none spoils no other series."""
    with suppress(ValueError):
        told.add_metric(labels, datetime.fromisoformat(since).timestamp())
