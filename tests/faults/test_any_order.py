"""Laws: whatever is lost, doubled or late, and however often the operator dies, the end is the same."""

import copy
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.controllers.store import Key
from modelops.plan import Manifest, Plan
from modelops.rollouts.state import Phase
from tests.serving import situations
from tests.serving.cluster import Cluster, Server, Traffic
from tests.serving.situations import SERVICE, WORSE

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- any order of events -----------------------------------------------------------------------------


class _Recorded(Server):
    """A server that remembers every version of every object."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[tuple[str, Manifest]] = []

    def put(self, obj: Manifest) -> Manifest:
        stored = super().put(obj)
        self.history.append(("MODIFIED", copy.deepcopy(stored)))
        return stored

    async def delete(self, wanted: Any) -> None:
        gone = self.objects.get(Key(wanted.kind, wanted.namespace or "", wanted.name))
        await super().delete(wanted)
        if gone is not None:
            self.version += 1
            meta = {**gone["metadata"], "resourceVersion": str(self.version)}
            self.history.append(("DELETED", {**copy.deepcopy(gone), "metadata": meta}))


@cache
def _lived() -> tuple[Cluster, tuple[tuple[str, Manifest], ...]]:
    """Return a cluster after a rollout that was rolled back, and everything that happened in it."""
    server = _Recorded()
    for obj in situations.pushed().server.objects.values():
        server.load(obj)
        server.history.append(("ADDED", copy.deepcopy(obj)))
    cluster = Cluster()
    cluster.server = server
    cluster.traffic = Traffic(canary=WORSE)
    server.now = situations.pushed().now
    cluster.restart()
    cluster.measure().settle().until("chat", Phase.ROLLED_BACK).run(20).resync()
    return cluster, tuple(server.history)


def _plans(cluster: Cluster) -> dict[Key, Plan | None]:
    """Return what is planned for every object now."""
    out: dict[Key, Plan | None] = {}
    for kind, root in cluster.roots.items():
        for row in cluster.store.rows(kind):
            seen = root.gather(key := Key(kind, row.namespace, row.name), cluster.reading(key))
            out[Key(kind, row.namespace, row.name)] = None if seen is None else root.plan(seen, cluster.now)
    return out


def _listed(cluster: Cluster) -> None:
    """Show a complete list of every kind, as a reflector and the sweep do."""
    for watched in cluster.kinds.watched:
        kind = watched.resource.kind
        listed = cluster.of(kind)
        for obj in listed:
            cluster.observer.observe(kind, None, obj)
        uids = {obj["metadata"]["uid"] for obj in listed}
        for row in tuple(cluster.store.rows(kind)):
            if row.uid not in uids and row.resource_version <= cluster.server.version:
                cluster.observer.forget(kind, row)


@st.composite
def _disorder(draw: st.DrawFn) -> list[int]:
    """Return places in history: some lost, some doubled, in any order."""
    size = len(_lived()[1])
    kept = draw(st.lists(st.integers(0, size - 1), min_size=size // 3, max_size=size))
    return draw(st.permutations(kept))


@QUICK
@given(places=_disorder())
def test_events_in_any_order_lost_and_doubled_end_in_the_same_plans_after_one_list(places):
    calm, history = _lived()
    wanted = _plans(calm)
    other = Cluster()  # it has seen nothing yet
    other.server.now, other.traffic = calm.now, calm.traffic
    other.server.objects, other.server.version = calm.server.objects, calm.server.version
    for place in places:
        type_, obj = history[place]
        other.observer.observe(obj["kind"], type_, obj)
    _listed(other)
    other.measure()
    assert _plans(other) == wanted


@QUICK
@given(places=_disorder())
def test_no_event_of_the_past_changes_what_is_known(places):
    """Late events after everything was seen: the versions tell."""
    calm, history = _lived()
    other = calm.again()
    before, sizes = _plans(other), other.store.sizes
    for place in places:
        type_, obj = history[place]
        other.observer.observe(obj["kind"], "MODIFIED" if type_ == "ADDED" else type_, obj)
    _listed(other)
    assert (_plans(other), other.store.sizes) == (before, sizes)


# --- any disturbance of a rollout --------------------------------------------------------------------

DISTURBANCES = st.lists(
    st.tuples(
        st.integers(1, 25),
        st.sampled_from(
            ["die", "double", "lose pods' events", "resync", "old", "freeze the gateway", "lose metrics"]
        ),
    ),
    max_size=12,
)


def _disturb(cluster: Cluster, what: str, past: list[Manifest]) -> None:
    match what:
        case "die":
            cluster.again()
        case "double":
            for obj in cluster.of("Pod") + cluster.of("InferenceService"):
                cluster.observer.observe(obj["kind"], "MODIFIED", obj)
        case "lose pods' events":  # until the next list
            _deaf_to_pods(cluster)
        case "old":
            for obj in past:
                cluster.observer.observe(obj["kind"], "MODIFIED", obj)
        case "freeze the gateway":
            cluster.run(4, gateway=False)
        case "lose metrics":
            cluster.traffic = Traffic(away_since=cluster.now)
            cluster.run(4)
            cluster.traffic = Traffic()
        case _:
            cluster.resync()


def _deaf_to_pods(cluster: Cluster) -> None:
    heard = cluster.show
    cluster.show = lambda obj: None if obj["kind"] == "Pod" else heard(obj)  # type: ignore[method-assign]
    cluster.run(5)
    cluster.show = heard  # type: ignore[method-assign]
    _listed(cluster)


def _end(disturbances: list[tuple[int, str]]) -> dict[str, Any]:
    """Return where a rollout ends that is disturbed so."""
    cluster = situations.pushed()
    past = cluster.of("Pod") + cluster.of("InferenceService")
    cluster.settle()
    for seconds, what in disturbances:
        cluster.run(seconds)
        _disturb(cluster, what, past)
    cluster.until("chat", Phase.STABLE, 900).run(60).resync()
    writes = len(cluster.server.writes)
    cluster.resync()
    assert len(cluster.server.writes) == writes, "planning twice writes nothing"
    state = cluster.rollout("chat")
    children = {
        (kind, o["metadata"]["name"]): (o["spec"], o["metadata"].get("labels"))
        for kind in ("Deployment", "Service", "HTTPRoute", "PodDisruptionBudget", "PersistentVolumeClaim")
        for o in cluster.of(kind)
    }
    roles = (state.stable, state.candidate, state.previous, state.promoted, state.rejected)
    conditions = cluster.get(*SERVICE)["status"]["conditions"]
    return {
        "children": children,
        "roles": roles,
        "conditions": [(c["type"], c["status"], c["reason"]) for c in conditions],
    }


@cache
def _calm_end() -> dict[str, Any]:
    return _end([])


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(disturbances=DISTURBANCES)
def test_a_rollout_ends_where_it_would_have_ended_however_it_is_disturbed(disturbances):
    assert _end(disturbances) == _calm_end()
