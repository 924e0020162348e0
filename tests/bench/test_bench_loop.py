"""The bench of the loop: its data are at rest, and a missed goal ends it."""

import json

import pytest

from modelops.controllers.execute import applied_hash
from tests.bench import bench_loop
from tests.bench.bench_loop import Goal
from tests.bench.loop_data import Data


def test_copies_of_a_service_differ_in_name_and_uid_and_have_hashes_of_their_own():
    objects = [obj for obj in Data(41).settled() if obj["metadata"]["namespace"] == "team-00"]
    services = [obj for obj in objects if obj["kind"] == "InferenceService"]
    assert [obj["metadata"]["name"] for obj in services] == ["svc-00000", "svc-00020", "svc-00040"]
    uids = [obj["metadata"]["uid"] for obj in objects]
    assert len(set(uids)) == len(uids)
    notes = [obj["metadata"].get("annotations") or {} for obj in objects if obj["kind"] == "Deployment"]
    assert len({note["modelops.dev/applied-hash"] for note in notes}) == 3
    assert "svc-00000" not in json.dumps([obj for obj in objects if "00020" in obj["metadata"]["name"]])


def test_the_hash_of_a_copy_is_that_of_what_its_plan_wants():
    template = next(Data(1)._templates())
    (deployment,) = (obj for obj in template.service(7, 3) if obj["kind"] == "Deployment")
    name = next(name for kind, name in template.wanted if kind == "Deployment")
    wanted = json.loads(template._renamed(template.wanted["Deployment", name], 7, 3))
    assert wanted["metadata"]["name"] == deployment["metadata"]["name"]
    assert deployment["metadata"]["annotations"]["modelops.dev/applied-hash"] == applied_hash(wanted)


@pytest.mark.parametrize(
    ("goal", "is_missed"),
    [
        pytest.param(Goal("memory", 140, 140, "MB"), False, id="just met"),
        pytest.param(Goal("memory", 140.1, 140, "MB"), True, id="missed"),
        pytest.param(Goal("wall time", 99, 10, "s", is_gate=False), False, id="wall times gate nothing"),
    ],
)
def test_only_gates_can_be_missed(goal, is_missed):
    assert bench_loop.missed([goal]) == ([goal] if is_missed else [])
    told = bench_loop.summary([goal], 12.0)
    assert ("MISSED: memory" in told) is is_missed
