"""Time alone changes a plan only at the moment that the plan named: else a resync could not rest."""

from datetime import timedelta

import pytest

from modelops.plan import Plan
from tests.serving import situations
from tests.serving.cluster import Cluster
from tests.serving.golden import CASES, cluster_of
from tests.serving.situations import NAMESPACE, SERVICE

RESTING = [
    case
    for case in CASES
    if cluster_of(case)[1].kind in ("InferenceService", "ModelVersion", "ModelApproval", "RolloutPolicy")
]
ALWAYS = timedelta(days=400)
MOMENT = timedelta(microseconds=1000)


@pytest.mark.parametrize("case", RESTING, ids=lambda case: case.name)
def test_time_changes_nothing_before_the_plan_said_so(case):
    cluster, root = cluster_of(case)
    kind = cluster.roots[root.kind]
    cluster.keys.add(root)
    cluster.settle()
    seen = kind.gather(root, cluster.reading(root))
    if seen is None:
        return
    now: Plan = kind.plan(seen, cluster.now)
    until = ALWAYS if now.after is None else min(ALWAYS, now.after)
    for part in (0.1, 0.5, 0.9):
        later = kind.plan(seen, cluster.now + until * part)
        assert (later.status, later.apply, later.delete) == (now.status, now.apply, now.delete), until * part
    last = kind.plan(seen, cluster.now + until - MOMENT)
    assert (last.status, last.apply) == (now.status, now.apply)


def test_a_service_looks_again_when_an_approval_of_its_version_ends():
    cluster = situations.serving()
    ends = f"{cluster.now + timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    (approval,) = cluster.of("ModelApproval")
    cluster.edit("ModelApproval", NAMESPACE, approval["metadata"]["name"], {"spec": {"expiresAt": ends}})
    sign(cluster)
    kind = cluster.roots[SERVICE.kind]
    seen = kind.gather(SERVICE, cluster.reading(SERVICE))
    plan = kind.plan(seen, cluster.now)
    assert plan.after == timedelta(days=3)
    before, then = (kind.plan(seen, cluster.now + plan.after + more) for more in (-MOMENT, MOMENT))
    assert before.status == plan.status
    assert then.status != plan.status


def sign(cluster: Cluster) -> None:
    """Let the operator countersign what was edited, as if it had been made so."""
    (approval,) = cluster.of("ModelApproval")
    meta = approval["metadata"]
    cluster.edit("ModelApproval", NAMESPACE, meta["name"], {"status": {"countersign": None}})
    cluster.settle()
