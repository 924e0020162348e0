"""What runs beside the plans: which volumes go, when the gate changed, and which runs are measured."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelops.controllers.gate import changed_at
from modelops.controllers.measure import run_of
from modelops.controllers.route_sweep import RouteSweep
from modelops.controllers.volumes import VolumeSweep
from modelops.rollouts.state import Phase
from tests.serving.situations import NAMESPACE, SERVICE, at_step, pushed, serving
from tests.serving.test_lent import routed, rule, weights


def unused(cluster) -> list[str]:
    return [row.digest[:2] for row in VolumeSweep(cluster.parts).unused()]


def test_a_volume_stays_while_a_revision_or_a_pod_needs_it():
    cluster = pushed().settle().until("chat", Phase.BAKING)
    assert unused(cluster) == []
    cluster.until("chat", Phase.STABLE)
    assert unused(cluster) == []
    cluster.run(3)
    assert unused(cluster) == ["1a"]


def test_a_volume_goes_with_its_service():
    cluster = serving()
    cluster.remove(*SERVICE)
    assert unused(cluster) == []
    for kind in ("Pod", "Deployment"):
        for obj in cluster.of(kind):
            cluster.remove(kind, NAMESPACE, obj["metadata"]["name"])
    assert unused(cluster) == ["1a"]


def test_a_volume_of_a_namespace_that_is_not_served_is_left_to_who_made_it():
    for watched, found in ((), ["1a"]), ((NAMESPACE,), ["1a"]), (("another",), []):
        cluster = serving()
        for kind in ("InferenceService", "Pod", "Deployment"):
            for obj in cluster.of(kind):
                cluster.remove(kind, NAMESPACE, obj["metadata"]["name"])
        settings = cluster.parts.settings.model_copy(update={"watch_namespaces": watched})
        cluster.parts = replace(cluster.parts, settings=settings)
        assert unused(cluster) == found


def test_a_route_of_a_user_gets_its_weights_back_when_the_service_is_gone():
    told = routed(rule(None, 0)).want("chat-2").until(Phase.PROGRESSING).run(3)
    cluster, sweep = told.cluster, RouteSweep(told.cluster.parts)
    assert list(sweep.left()) == []
    cluster.remove(*SERVICE)
    ((service, patch),) = sweep.left()
    assert service == "chat"
    asyncio.run(cluster.server.change(patch.ref, patch.operations))
    assert weights(cluster) == [[None, 0]]
    cluster.show(cluster.get("HTTPRoute", NAMESPACE, "web"))
    assert list(sweep.left()) == []


def written(*times: str, **more) -> dict:
    fields = [{"manager": "helm", "time": time, **more} for time in times]
    return {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": fields}


@pytest.mark.parametrize(
    ("meta", "day"),
    [
        pytest.param({"creationTimestamp": "2026-01-01T00:00:00Z"}, 1, id="never changed"),
        pytest.param(
            written("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"), 3, id="changed, and put right since"
        ),
        pytest.param(
            written("2026-01-04T00:00:00Z", subresource="status"), 1, id="only its status was written"
        ),
    ],
)
def test_since_when_an_object_of_the_gate_is_what_it_is(meta, day):
    assert changed_at(meta) == datetime(2026, 1, day, tzinfo=UTC)


def test_windows_are_counted_from_when_the_candidate_was_ready():
    cluster = at_step(20)
    row = cluster.store.get(*SERVICE)
    ready = cluster.rollout("chat").ready_at
    run = run_of(row, timedelta(seconds=30), ready.timestamp() + 94)
    assert (run.origin, run.closed, run.window) == (int(ready.timestamp()), 3, 30)
    assert run.run_id == cluster.rollout("chat").run_id
    assert run_of(row, timedelta(seconds=30), ready.timestamp() + 92).closed == 2


def test_the_history_is_read_until_it_is_frozen():
    cluster = pushed().settle().run(3)
    row, now = cluster.store.get(*SERVICE), cluster.now.timestamp()
    assert run_of(row, timedelta(seconds=30), now).needs_history
    cluster.until("chat", Phase.PROGRESSING).run(1)
    assert not run_of(cluster.store.get(*SERVICE), timedelta(seconds=30), now).needs_history


def test_without_a_run_nothing_is_measured():
    cluster = serving()
    assert run_of(cluster.store.get(*SERVICE), timedelta(seconds=30), cluster.now.timestamp()) is None
