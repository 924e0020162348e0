"""What the scale bench counts, and that what it makes is what people would make."""

import json

import pytest
import yaml

from modelops.registry import resolution
from modelops.registry.resolution import Resolved
from tests.bench import scale_objects as objects
from tests.bench.bench_scale import main
from tests.bench.scale_figures import Goal, Reading, grown, samples, summed, told
from tests.bench.scale_platform import ROOT
from tests.serving.schema import complaints

OURS = """
# HELP modelops_api_requests_total Requests to the API server.
modelops_api_requests_total{code="200",kind="Service",verb="apply"} %d
modelops_api_requests_total{code="409",kind="Service",verb="apply"} 1.0
modelops_api_requests_total{code="201",kind="Event",verb="create"} 4.0
modelops_api_requests_total{code="200",kind="Lease",verb="update"} %d
modelops_api_requests_total{code="200",kind="Pod",verb="list"} 2.0
modelops_passes_total{kind="Model"} 7.0
modelops_passes_total_more 7.0
"""
EXECUTION = "apiserver_flowcontrol_request_execution_seconds"
LABELS = 'priority_level="workload-low",type="regular"'
SERVER = f"""
{EXECUTION}_sum{{flow_schema="modelops",{LABELS}}} %s
{EXECUTION}_count{{flow_schema="modelops",{LABELS}}} 3
{EXECUTION}_sum{{flow_schema="exempt",{LABELS}}} 9
apiserver_request_duration_seconds_sum{{verb="APPLY",resource="pods"}} %s
apiserver_request_duration_seconds_sum{{verb="WATCH",resource="pods"}} %s
"""


def reading(applied: int, seconds: float, cpu: float) -> Reading:
    server = SERVER % (seconds, seconds, 100 * seconds)
    return Reading.of(OURS % (applied, 100 * applied), server, {"operator": cpu, "etcd": 1.0})


def test_only_what_happened_between_two_readings_counts_and_the_lease_never():
    found = told(reading(10, 1.5, 2.0), reading(110, 4.0, 3.0), 50)
    assert found["requests_by_verb"] == {"apply": 100}
    assert (found["writes"], found["writes_each"]) == (100, 2.0)
    assert found["writes_by_kind"] == {"Service": 100}
    assert found["passes"] == found["answers_not_2xx"] == {}
    assert (found["operator_cpu_s"], found["operator_cpu_ms_each"]) == (1.0, 20.0)
    assert found["server_s_for_operator"] == 2.5
    assert found["server_s_for_all_by_verb"] == {"APPLY": 2.5}, "a watch lasts as long as it is open"


def test_samples_are_read_by_whole_name_and_any_order_of_labels():
    found = samples('a_total{x="1",y="a\\"b"} 2\na_total{y="c",x="1"} 3\nb 4\n', ["a_"])
    assert summed(found, "a_total", "x") == {"1": 5.0}
    assert summed(found, "a_total", "y", x="1") == {"c": 3.0, 'a\\"b': 2.0}
    assert grown(found, found) == {}


@pytest.mark.parametrize(("found", "is_met"), [(9.9, True), (10, True), (10.1, False)])
def test_a_goal_is_met_up_to_its_limit(found, is_met):
    assert Goal("writes", found, 10).is_met is is_met


@pytest.mark.parametrize("count", [1, 50, 51, 1000])
def test_there_is_room_for_every_service_and_every_place_is_another(count):
    assert len(objects.nodes(count)) * objects.GPUS_PER_NODE >= count
    assert len(set(objects.places(count))) == count


def test_what_people_make_is_what_the_schemas_take():
    place = objects.places(1)[0]
    stored = objects.version(place) | {
        "status": {"artifactDigest": f"sha256:{'1a' * 32}", "specHash": f"sha256:{'2b' * 32}"}
    }
    for obj in (
        objects.model(place),
        objects.version(place),
        objects.service(place),
        objects.approval(stored),
    ):
        assert complaints(obj["kind"], "spec", obj["spec"]) == []


def test_the_pretended_jobs_say_what_the_operator_can_read():
    said = {
        "v": 1,
        "verdict": "Resolved",
        "revision": "5f3c" * 10,
        "artifactDigest": f"sha256:{'1a' * 32}",
        "files": 3,
        "bytes": 669312000,
        "facts": objects.FACTS,
    }
    assert isinstance(resolution.read(json.dumps(said)), Resolved)
    text = (ROOT / "tests" / "bench" / "scale_stages.yaml").read_text()
    stages = list(yaml.safe_load_all(text.replace("@FACTS@", '"{}"')))
    kinds = [stage["spec"]["resourceRef"]["kind"] for stage in stages]
    assert kinds == ["Node", "Pod", "Pod", "Pod", "HTTPRoute"]
    template = stages[2]["spec"]["next"]["statusTemplate"]
    assert all(f'\\"{key}\\"' in template for key in said)


def test_a_wrong_number_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--services", "many"])
    assert "invalid int value" in capsys.readouterr().err
