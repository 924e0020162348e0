"""The first story, on a cluster of its own: approve, serve, canary, judge, roll back.

The steps build on each other and run in the order they stand.
"""

import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

import e2e.cluster
from e2e.cluster.progress import CommandFailed
from e2e.load.load import Load
from e2e.quickstart.platform import APPROVER, AUTHOR, NAMESPACE, OUTSIDER, PREVIOUS, SYSTEM, Platform
from e2e.quickstart.story import Story

SERVICE, VERSION = "inferenceservices.modelops.dev", "modelversions.modelops.dev"
LEAST_RATE, LEAST_STREAMS = 20, 20
STEADY_SECONDS = 90


class Told:
    """What earlier steps saw and later ones compare with."""

    digest: str = ""
    first_pods: frozenset[str] = frozenset()
    second_hash: str = ""
    second_pods: frozenset[str] = frozenset()
    load: Load | None = None
    third_run: str = ""


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    cluster = e2e.cluster.open("test")
    cluster.down()
    try:
        cluster.up(background=True)
        platform = Platform(cluster)
        platform.build_images()
        cluster.gateway_address()
        platform.start_hub()
        platform.install_previous()
        yield platform
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def story(platform: Platform) -> Story:
    return Story(platform)


# --- 3: register -------------------------------------------------------------------------------------


def test_a_private_version_is_pinned_fetched_and_verified(
    story: Story, platform: Platform, told: Told
) -> None:
    story.open_namespace()
    story.register()
    story.wait_verified("chat-1")
    version = platform.get(VERSION, "chat-1")
    told.digest = version["status"]["artifactDigest"]
    assert re.fullmatch(r"[0-9a-f]{40}", version["status"]["resolved"]["revision"])
    assert version["status"]["resolved"]["format"] == "GGUF"
    assert version["spec"]["createdBy"] == AUTHOR


def test_the_digest_is_what_coreutils_give(platform: Platform, told: Told) -> None:
    agents = platform.list("pods", "-l", "app.kubernetes.io/component=delivery", namespace=SYSTEM)
    node = platform.get(VERSION, "chat-1")["status"]["cache"]["nodes"][0]["name"]
    agent = next(p["metadata"]["name"] for p in agents if p["spec"]["nodeName"] == node)
    folder = f"/var/lib/modelops/store/{told.digest.replace(':', '-')}/files"
    script = f"cd {folder} && find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
    printed = platform.admin("exec", "-n", SYSTEM, agent, "--", "sh", "-c", script)
    assert f"sha256:{printed.split()[0]}" == told.digest


def test_no_pod_starts_and_the_conditions_say_who_must_approve_what(platform: Platform) -> None:
    assert platform.list("pods", "-l", "modelops.dev/service=chat") == []
    for kind, name, condition in ((VERSION, "chat-1", "Approved"), (SERVICE, "chat", "ModelAdmitted")):
        found = platform.condition(kind, name, condition)
        assert (found["status"], found["reason"]) == ("False", "ApprovalMissing")
        assert found["message"] == (
            "chat-1: needs 1 approval for prod, found 0; ask somebody other than author to run "
            "kubectl modelops approve chat-1"
        )
    assert platform.rollout()["phase"] == "AwaitingApproval"


def test_the_hubs_token_is_nowhere_but_in_its_secret(platform: Platform) -> None:
    everything = platform.admin(
        "get", "-A", "-o", "json",
        "pods,jobs,deployments,daemonsets,events,configmaps,models.modelops.dev,"
        f"{VERSION},{SERVICE},modelnodes.modelops.dev,rolloutpolicies.modelops.dev",
    )  # fmt: skip
    without_hub = [o for o in json.loads(everything)["items"] if o["metadata"].get("namespace") != "hub"]
    assert platform.token not in json.dumps(without_hub)
    for namespace in (SYSTEM, NAMESPACE):
        for pod in platform.list("pods", namespace=namespace):
            log = platform.admin("logs", "-n", namespace, pod["metadata"]["name"], "--all-containers")
            assert platform.token not in log


# --- 4: approve --------------------------------------------------------------------------------------


def test_one_who_lacks_the_verb_is_refused(platform: Platform) -> None:
    wanted = json.dumps(approval(platform, "refused"))
    with pytest.raises(CommandFailed, match="forbidden"):
        platform.apply_text(wanted, platform.person(OUTSIDER))
    # Who may create the object, but was not given the verb, is stopped by the gate's own policy.
    may = ["--verb=create,get,patch", "--resource=modelapprovals.modelops.dev"]
    platform.admin("create", "role", "creator", "-n", NAMESPACE, *may)
    platform.admin("create", "rolebinding", "creator", "-n", NAMESPACE, "--role=creator", f"--user={AUTHOR}")
    with pytest.raises(CommandFailed, match="lacks verb approve on models/chat"):
        platform.apply_text(wanted, platform.person(AUTHOR))


def test_one_who_names_another_is_stored_under_the_own_name(story: Story, platform: Platform) -> None:
    forged = approval(platform, "forged", approver="somebody-else")
    platform.apply_text(json.dumps(forged), platform.person(APPROVER))
    stored = platform.get("modelapprovals.modelops.dev", "forged")
    assert stored["spec"]["approver"]["username"] == APPROVER


def test_the_authors_own_approval_is_stored_and_ignored_with_a_reason(platform: Platform) -> None:
    # The forged one above counts, since it is the approver's: take its version's twin, made by the approver.
    twin = platform.get(VERSION, "chat-1")
    own = {
        "apiVersion": twin["apiVersion"],
        "kind": twin["kind"],
        "metadata": {"name": "chat-own", "namespace": NAMESPACE},
        "spec": {k: v for k, v in twin["spec"].items() if k != "createdBy"} | {"version": "own"},
    }
    platform.admin("create", "rolebinding", "both", "-n", NAMESPACE, "--clusterrole=modelops-editor",
                   f"--user={APPROVER}")  # fmt: skip
    platform.apply_text(json.dumps(own), platform.person(APPROVER))
    platform.wait(
        "chat-own resolved",
        lambda: bool(platform.get(VERSION, "chat-own").get("status", {}).get("artifactDigest")),
        seconds=120,
    )
    platform.modelops(APPROVER, "approve", "chat-own", "-n", NAMESPACE, "--reason", "My own work is fine")

    def is_ignored() -> bool:
        approvals = platform.get(VERSION, "chat-own")["status"]["approval"]["environments"][0]
        return [i["reason"] for i in approvals.get("ignored", ())] == ["OwnVersion"]

    platform.wait("own approval ignored", is_ignored, seconds=60)
    assert platform.condition(VERSION, "chat-own", "Approved")["status"] == "False"
    platform.admin("delete", VERSION, "chat-own", "-n", NAMESPACE)


def test_a_person_who_may_approves_in_one_command(story: Story, platform: Platform, told: Told) -> None:
    said = story.approve("chat-1")
    assert told.digest in said
    platform.wait(
        "chat-1 approved",
        lambda: platform.condition(VERSION, "chat-1", "Approved").get("status") == "True",
        seconds=60,
    )


# --- 5: serve ----------------------------------------------------------------------------------------


def test_the_service_becomes_ready_with_its_plan_explained(
    story: Story, platform: Platform, told: Told
) -> None:
    story.wait_ready()
    status = platform.service()["status"]
    plan = status["placement"]["plan"]
    assert plan["product"] == "NVIDIA-L4"
    assert plan["rejected"][0]["product"] == "NVIDIA-H100-80GB-HBM3"
    assert re.search(r"\d", plan["message"])
    (pod,) = platform.list("pods", "-l", "modelops.dev/service=chat")
    placed = platform.condition(SERVICE, "chat", "Placed")
    assert placed["lastTransitionTime"] <= pod["metadata"]["creationTimestamp"]  # the plan came first
    told.first_pods = frozenset(platform.pod_ids(status["stable"]["hash"]))
    assert len(told.first_pods) == 1


def test_the_pod_is_restricted_has_one_gpu_and_the_meter(platform: Platform) -> None:
    (pod,) = platform.list("pods", "-l", "modelops.dev/service=chat")
    engine = pod["spec"]["containers"][0]
    assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["wait", "meter"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not any("projected" in volume for volume in pod["spec"]["volumes"])
    namespace = platform.get("namespace", NAMESPACE, None)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_streamed_answer_comes_back_through_the_gateway(story: Story) -> None:
    status, body = story.ask(tokens=8, stream=True)
    assert status == 200
    events = [line for line in body.splitlines() if line.startswith("data: ")]
    assert len(events) > 8
    assert events[-1] == "data: [DONE]"


def test_metrics_reach_prometheus(platform: Platform) -> None:
    def is_scraped() -> bool:
        return bool(query(platform, f'modelops_requests_total{{namespace="{NAMESPACE}",code="2xx"}} > 0'))

    platform.wait("metrics in Prometheus", is_scraped, seconds=30)


def test_a_service_that_fits_nowhere_says_so_with_numbers_and_gets_no_pod(platform: Platform) -> None:
    service = {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "huge", "namespace": NAMESPACE},
        "spec": {"model": {"version": "chat-1"}, "accelerator": {"count": 1, "minMemory": "500Gi"}},
    }
    platform.apply_text(json.dumps(service), platform.person(AUTHOR))
    platform.wait(
        "huge is refused",
        lambda: platform.condition(SERVICE, "huge", "Placed").get("status") == "False",
        seconds=30,
    )
    found = platform.condition(SERVICE, "huge", "Placed")
    assert found["reason"] == "NeverFits"
    assert "500" in found["message"]
    assert platform.list("pods", "-l", "modelops.dev/service=huge") == []
    platform.admin("delete", SERVICE, "huge", "-n", NAMESPACE)


# --- 6 and 8: a good version, with faults in mid-run -------------------------------------------------


def test_users_come(story: Story, told: Told) -> None:
    told.load = story.load().start()
    assert told.load.wait_until_ramped(120)
    time.sleep(STEADY_SECONDS)  # the judge draws its boundaries from what it saw before the run


def test_the_second_version_gets_its_first_step(story: Story, platform: Platform, told: Told) -> None:
    story.roll_out_second()
    story.serve("chat-2")
    story.wait_verified("chat-2")
    story.approve("chat-2")
    story.wait_weight(20, seconds=180)
    told.second_hash = platform.service()["status"]["candidate"]["hash"]
    told.second_pods = frozenset(platform.pod_ids(told.second_hash))
    assert len(told.second_pods) == 1


def test_the_leader_is_killed_in_mid_step_and_the_other_replica_goes_on(
    story: Story, platform: Platform
) -> None:
    run_id = platform.rollout()["runId"]
    holder = platform.get("lease", "modelops", SYSTEM)["spec"]["holderIdentity"]
    leader = holder.rpartition("_")[0]
    platform.cluster.faults.kill(platform.cluster.faults.pids(SYSTEM, leader, "operator"))
    story.wait_weight(50, seconds=240)
    assert platform.rollout()["runId"] == run_id
    assert platform.get("lease", "modelops", SYSTEM)["spec"]["holderIdentity"] != holder


def test_prometheus_away_freezes_the_weight(story: Story, platform: Platform) -> None:
    platform.cluster.faults.scale("monitoring", "prometheus", 0)
    platform.wait(
        "metrics are missed",
        lambda: platform.condition(SERVICE, "chat", "RolloutHealthy").get("reason") == "MetricsUnavailable",
        seconds=90,
    )
    assert story.weight() == 50
    time.sleep(35)  # longer than a window and a dwell: nothing may move meanwhile
    assert (story.phase(), story.weight()) == ("Progressing", 50)
    platform.cluster.faults.scale("monitoring", "prometheus", 1)


def test_the_second_version_is_promoted_and_no_pod_restarts(
    story: Story, platform: Platform, told: Told
) -> None:
    story.wait_phase("Baking", "Stable", seconds=1200)
    status = platform.service()["status"]
    assert status["stable"]["version"] == "chat-2"
    assert status["stable"]["hash"] == told.second_hash
    assert platform.pod_ids(told.second_hash) == set(told.second_pods)
    story.wait_phase("Stable", seconds=120)
    restarts = [
        c["restartCount"]
        for p in platform.list("pods", "-l", f"modelops.dev/revision={told.second_hash}")
        for c in [*p["status"]["containerStatuses"], *p["status"]["initContainerStatuses"]]
    ]
    assert set(restarts) == {0}


def test_without_the_operator_traffic_goes_on(platform: Platform, told: Told) -> None:
    platform.cluster.faults.scale(SYSTEM, "modelops", 0)
    time.sleep(15)  # users go on all the while; what they lose is counted in the next step
    platform.cluster.faults.scale(SYSTEM, "modelops", 2)


def test_an_upgrade_of_the_chart_restarts_no_serving_pod(platform: Platform, told: Told) -> None:
    def serving() -> tuple[object, ...]:
        (deployment,) = platform.list("deployments", "-l", f"modelops.dev/revision={told.second_hash}")
        return deployment["metadata"]["generation"], frozenset(platform.pod_ids(told.second_hash))

    before = serving()
    platform.install_chart()
    operators = platform.list("pods", "-l", "app.kubernetes.io/component=operator", namespace=SYSTEM)
    new = {
        pod["metadata"]["name"]
        for pod in operators
        if pod["spec"]["containers"][0]["image"].endswith(f":{platform.tag}")
    }
    assert new

    def leads() -> bool:
        holder = platform.get("lease", "modelops", SYSTEM)["spec"].get("holderIdentity", "")
        return holder.rpartition("_")[0] in new

    platform.wait("a new replica leads", leads, seconds=60)
    time.sleep(15)  # it plans every service anew; what it would change, it would change now
    assert serving() == before
    (pod,) = platform.list("pods", "-l", f"modelops.dev/revision={told.second_hash}")
    assert {c["image"].rpartition(":")[2] for c in pod["spec"]["initContainers"]} == {PREVIOUS}


def test_no_request_failed_and_no_stream_was_cut(told: Told) -> None:
    assert told.load is not None
    report = told.load.stop()
    told.load = None
    print(
        f"\nusers: {report.short_ok} short requests and {report.stream_ok} streams answered, "
        f"{report.short_failed + report.stream_failed} failed, {report.stream_cut} cut; never fewer than "
        f"{report.lowest_open_streams} long streams open and {report.lowest_rate} requests in a second"
    )
    assert (report.short_failed, report.stream_failed, report.stream_cut) == (0, 0, 0), report.faults[:5]
    assert report.lowest_open_streams is not None
    assert report.lowest_open_streams >= LEAST_STREAMS
    assert report.lowest_rate is not None
    assert report.lowest_rate >= LEAST_RATE


# --- 7: a bad version --------------------------------------------------------------------------------


def test_a_version_that_only_metrics_show_to_be_bad_is_rolled_back(
    story: Story, platform: Platform, told: Told
) -> None:
    story.roll_out_third()
    load = story.load().start()
    try:
        story.wait_phase("RollingBack", "RolledBack", seconds=420)
    finally:
        load.stop()
    story.wait_phase("RolledBack", seconds=90)
    status = platform.service()["status"]
    rejected = status["rejected"][-1]
    told.third_run = rejected["runId"]
    assert rejected["version"] == "chat-3"
    # Both shares, both counts, the evidence and the bar.
    assert re.search(r"errors .+% vs .+% \(n=\d+, \d+\)", rejected["reason"])
    assert re.search(r"evidence .+:1", rejected["reason"])
    assert status["stable"]["hash"] == told.second_hash
    assert platform.pod_ids(told.second_hash) == set(told.second_pods)
    ready = platform.condition(SERVICE, "chat", "Ready")
    assert ready["status"] == "True"


def test_applying_the_bad_version_again_starts_nothing(story: Story, platform: Platform, told: Told) -> None:
    story.serve("chat-3", story.bad_engine())
    generation = platform.service()["metadata"]["generation"]
    platform.wait(
        "the operator saw it",
        lambda: platform.service()["status"]["observedGeneration"] == generation,
        seconds=30,
    )
    assert story.phase() == "RolledBack"
    pods = platform.list("pods", "-l", "modelops.dev/service=chat")
    live = {p["metadata"]["uid"] for p in pods if not p["metadata"].get("deletionTimestamp")}
    assert live == set(told.second_pods)


# --- 8: a revocation ---------------------------------------------------------------------------------


def test_a_revoked_version_keeps_running_and_says_so_but_never_starts_again(
    story: Story, platform: Platform, told: Told
) -> None:
    story.serve("chat-2")
    story.wait_phase("Stable", seconds=60)
    platform.modelops(APPROVER, "approve", "chat-2", "--revoke", "-n", NAMESPACE, "--reason", "Found to leak")
    platform.wait(
        "the revocation shows",
        lambda: platform.condition(SERVICE, "chat", "ModelAdmitted").get("reason") == "Revoked",
        seconds=60,
    )
    assert platform.pod_ids(told.second_hash) == set(told.second_pods)
    assert platform.condition(SERVICE, "chat", "Ready")["status"] == "True"
    second = platform.service()
    again = {
        "apiVersion": second["apiVersion"],
        "kind": second["kind"],
        "metadata": {"name": "again", "namespace": NAMESPACE},
        "spec": {"model": {"version": "chat-2"}},
    }
    platform.apply_text(json.dumps(again), platform.person(AUTHOR))
    platform.wait(
        "a new start is refused",
        lambda: platform.condition(SERVICE, "again", "ModelAdmitted").get("reason") == "Revoked",
        seconds=60,
    )
    assert platform.list("pods", "-l", "modelops.dev/service=again") == []


# --- 9: what people see ------------------------------------------------------------------------------


def test_the_plug_in_and_kubectl_show_it(platform: Platform) -> None:
    told = platform.modelops(AUTHOR, "status", "-n", NAMESPACE)
    for word in ("chat", "chat-2", "Revoked"):
        assert word in told
    table = platform.admin("get", SERVICE, "chat", "-n", NAMESPACE)
    header, line = table.splitlines()[:2]
    assert header.split() == ["NAME", "SERVES", "READY", "REPLICAS", "ROLLOUT", "WEIGHT", "REASON", "AGE"]
    assert line.split()[:4] == ["chat", "chat-2", "True", "1/1"]


def test_a_whole_policy_is_empty(platform: Platform) -> None:
    policy = {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": "RolloutPolicy",
        "metadata": {"name": "empty", "namespace": NAMESPACE},
        "spec": {},
    }
    platform.apply_text(json.dumps(policy), platform.person(AUTHOR), "--dry-run=server")


# --- the end -----------------------------------------------------------------------------------------


def test_nothing_is_left_behind(platform: Platform) -> None:
    platform.admin("delete", "namespace", NAMESPACE, "--timeout=180s")
    platform.uninstall_chart()
    crds = [
        c["metadata"]["name"]
        for c in platform.list("crds", namespace=None)
        if "modelops.dev" in c["metadata"]["name"]
    ]
    platform.admin("delete", "crd", *crds, "--timeout=60s")
    volumes = [v["metadata"]["name"] for v in platform.list("pv", namespace=None)]
    assert volumes == []
    names = {n["metadata"]["name"] for n in platform.list("namespaces", namespace=None)}
    assert NAMESPACE not in names


# --- helpers -----------------------------------------------------------------------------------------


def approval(platform: Platform, name: str, *, approver: str | None = None) -> dict[str, object]:
    status = platform.get(VERSION, "chat-1")["status"]
    return {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": "ModelApproval",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "modelRef": "chat",
            "versionRef": "chat-1",
            "decision": "Approve",
            "artifactDigest": status["artifactDigest"],
            "specHash": status["specHash"],
            "environments": ["staging"],
            **({"approver": {"username": approver}} if approver else {}),
        },
    }


def query(platform: Platform, promql: str) -> list[object]:
    address = f"{platform.cluster.prometheus_url()}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found: list[object] = json.load(answer)["data"]["result"]
    return found
