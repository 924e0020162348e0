"""The situations of the golden cases: each function brings a cluster there; its name is the claim.

``python -m tests.serving.situations NAME...`` writes ``tests/golden/<name>/given.yaml``; missing ones are
written too, and ``all`` writes every one.  A given is what an API server returned once, so that a new release
must cope with it: it is written again only on purpose.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from modelops.controllers.context import version_spec_hash
from modelops.controllers.store import Key
from modelops.plan import Manifest
from modelops.rollouts.state import Phase
from tests.serving.cluster import FACTS, SETTINGS, Cluster, Traffic, key_of, last_words, merged

GOLDEN = Path(__file__).parents[1] / "golden"
OBJECTS = GOLDEN / "objects"
NAMESPACE = "quickstart"
SERVICE = Key("InferenceService", NAMESPACE, "chat")
DIGESTS = {"chat-1": "sha256:" + "1a" * 32, "chat-2": "sha256:" + "2b" * 32, "chat-3": "sha256:" + "3c" * 32}
WORSE = {"requests": 3000, "errors": 240, "slow": True}


@dataclass
class Case:
    """A situation: the cluster, the root to plan, and what is not an object."""

    cluster: Cluster
    root: Key = SERVICE
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    refused: tuple[str, str] | None = None
    gate_is_green: bool = True


# --- objects -----------------------------------------------------------------------------------------


def node(name: str, product: str, memory_mib: int, count: int) -> Manifest:
    amount = {"nvidia.com/gpu": str(count), "memory": "64Gi", "cpu": "16"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "topology.kubernetes.io/zone": f"zone-{name[-1]}",
                "nvidia.com/gpu.product": product,
                "nvidia.com/gpu.memory": str(memory_mib),
                "nvidia.com/gpu.count": str(count),
                "nvidia.com/gpu.compute.major": "8",
                "nvidia.com/gpu.compute.minor": "9",
                "nvidia.com/cuda.driver-version.major": "580",
            },
        },
        "status": {
            "allocatable": amount,
            "capacity": amount,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def namespace(environment: str = "prod") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"modelops.dev/environment": environment}},
    }


def ours(kind: str, name: str, spec: Mapping[str, Any], **meta: Any) -> Manifest:
    return {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, **meta},
        "spec": dict(spec),
    }


def model(**more: Any) -> Manifest:
    governance = {"approvals": {"required": 1, "environments": ["prod"]}}
    return ours("Model", "chat", {"type": "LLM", "governance": governance, **more})


def version(name: str = "chat-1", *, token: bool = False, **more: Any) -> Manifest:
    source = {"endpoint": "https://hub.example.com", "repo": "acme/chat", "revision": f"v{name[-1]}"}
    spec: dict[str, Any] = {
        "modelRef": "chat",
        "version": name[-1],
        "source": {"huggingFace": source},
        "createdBy": "author",
    }
    if token:
        spec["authSecretRef"] = {"name": "hub-token"}
    return ours("ModelVersion", name, {**spec, **more})


def policy(name: str = "quickstart", **more: Any) -> Manifest:
    spec = {
        "canary": {"steps": [20, 50], "minDwell": "30s"},
        "warmup": "10s",
        "analysis": {"window": "30s"},
        "minReady": "2s",
        "scaleDownDelay": "10s",
        "abortScaleDownDelay": "10s",
        "drainTimeout": "2m",
    }
    return ours("RolloutPolicy", name, spec, **more)


def service(name: str = "chat", version_name: str = "chat-1", **more: Any) -> Manifest:
    spec = {
        "model": {"version": version_name},
        "engine": {"name": "LlamaCpp", "contextTokens": 2048, "maxConcurrency": 8},
        "rolloutPolicyRef": {"name": "quickstart"},
    }
    return ours("InferenceService", name, {**spec, **more})


def approval(of: Manifest, decision: str = "Approve", by: str = "approver", **more: Any) -> Manifest:
    name = of["metadata"]["name"]
    spec = {
        "modelRef": "chat",
        "versionRef": name,
        "decision": decision,
        "artifactDigest": DIGESTS[name],
        "specHash": version_spec_hash(of),
        "environments": ["prod"],
        "approver": {"username": by, "uid": ""},
        **more,
    }
    return ours("ModelApproval", f"{name}-{decision.lower()}-{by}", spec)


def model_node(name: str, *cache: Mapping[str, Any]) -> Manifest:
    return {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": "ModelNode",
        "metadata": {"name": name},
        "status": {"cache": list(cache)},
    }


def artifact(name: str = "chat-1", phase: str = "Ready", **more: Any) -> dict[str, Any]:
    known = {"digest": DIGESTS[name], "namespace": NAMESPACE, "version": name, "phase": phase}
    return {**known, "bytes": 669_312_000, "totalBytes": 669_312_000, **more}


# --- the way ------------------------------------------------------------------------------------------


def begun(*objects: Manifest, **more: Any) -> Cluster:
    """Return a cluster with nodes, a namespace, a model and a policy, and *objects*."""
    cluster = Cluster(**more)
    cluster.put(node("node-a", "NVIDIA-L4", 23034, 2), node("node-b", "Tesla-T4", 15360, 1), namespace())
    return cluster.put(model(), policy(), *objects).settle()


def pinned(cluster: Cluster, name: str = "chat-1", **more: Any) -> Cluster:
    """Have the version resolved to a commit."""
    cluster.put(version(name, **more)).settle()
    words = last_words(artifactDigest=DIGESTS[name], revision=f"{name[-1]}f3c" * 10)
    return cluster.finish_job(words).settle()


def proven(cluster: Cluster, *found: str) -> Cluster:
    """Have every byte of the versions hashed on node-a."""
    return cluster.put(model_node("node-a", *(artifact(name) for name in found))).settle()


def approved(cluster: Cluster, name: str = "chat-1", **more: Any) -> Cluster:
    cluster.server.now += timedelta(seconds=20)
    return cluster.put(approval(cluster.get("ModelVersion", NAMESPACE, name), **more)).settle()


def ready_to_start(*objects: Manifest, **more: Any) -> Cluster:
    """Return a cluster in which chat-1 may run and no service wants it."""
    return approved(proven(pinned(begun(*objects, **more)), "chat-1"))


def serving() -> Cluster:
    """Return a cluster in which chat-1 serves."""
    cluster = ready_to_start().put(service()).settle()
    return cluster.until("chat", Phase.STABLE).run(120)


def pushed(name: str = "chat-2") -> Cluster:
    """Return a cluster in which chat-1 serves and an approved second version is wanted."""
    cluster = serving()
    approved(proven(pinned(cluster, name), "chat-1", name), name)
    return cluster.edit(*SERVICE, {"spec": {"model": {"version": name}}})


def at_step(weight: int) -> Cluster:
    """Return a cluster whose candidate gets *weight* percent, accepted by the gateway."""
    cluster = pushed().settle().until("chat", Phase.PROGRESSING)
    while cluster.rollout("chat").accepted != weight:
        cluster.run(1)
    return cluster


def brink(cluster: Cluster, phase: Phase, weight: int | None = None) -> Cluster:
    """Return *cluster* just before the service goes on to *phase* (and *weight*)."""

    def is_there(status: Mapping[str, Any]) -> bool:
        rollout = status.get("rollout", {})
        is_weight = weight is None or rollout["traffic"]["desired"] == weight
        return rollout.get("phase") == phase and is_weight

    return cluster.brink(SERVICE, is_there)


def baking() -> Cluster:
    return pushed().settle().until("chat", Phase.BAKING)


def rolled_back() -> Cluster:
    cluster = at_step(20)
    cluster.traffic = Traffic(canary=WORSE)
    return cluster.until("chat", Phase.ROLLED_BACK).run(2)


# --- versions -----------------------------------------------------------------------------------------

VERSION = Key("ModelVersion", NAMESPACE, "chat-1")
Situation = Callable[[], Case]
SITUATIONS: dict[str, Situation] = {}


def situation(make: Situation) -> Situation:
    SITUATIONS[make.__name__.replace("_", "-")] = make
    return make


def unresolved(*objects: Manifest) -> Cluster:
    """Return a cluster with a version that nobody looked at yet."""
    cluster = begun()
    cluster.put(*objects)
    cluster.keys.clear()
    return cluster


@situation
def a_version_is_resolved_by_a_job_without_api_token() -> Case:
    return Case(unresolved(version()), VERSION)


@situation
def a_token_reaches_the_resolve_job_as_a_file_only() -> Case:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "hub-token",
            "namespace": NAMESPACE,
            "labels": {"modelops.dev/delivery": "true"},
        },
        "data": {"token": "aGZfc2VjcmV0VG9rZW4="},
    }
    cluster = unresolved(version(token=True))
    cluster.server.put(secret)
    return Case(cluster, VERSION)


@situation
def a_host_that_nobody_allowed_is_refused() -> Case:
    source = {"huggingFace": {"endpoint": "http://169.254.169.254/latest", "repo": "acme/chat"}}
    return Case(unresolved(version(source=source)), VERSION)


def spoken(message: str, *, exit_code: int = 0, **more: Any) -> Cluster:
    """Return a cluster whose resolve Job has just ended with *message*."""
    cluster = begun(version(**more))
    cluster.finish_job(message, exit_code=exit_code)
    cluster.keys.clear()
    return cluster


@situation
def the_last_words_of_the_job_become_facts() -> Case:
    return Case(spoken(last_words()), VERSION)


@situation
def a_refusal_of_the_job_is_told_and_not_tried_again() -> Case:
    message = "acme/chat: needs a repository that the token may read, found none; check authSecretRef"
    return Case(
        spoken(last_words(verdict="Refused", reason={"code": "SourceForbidden", "message": message})), VERSION
    )


@situation
def hostile_last_words_are_no_answer() -> Case:
    facts = {**FACTS, "layers": "22; drop", "license": "x" * 5000}
    return Case(spoken(last_words(facts=facts)[:4096]), VERSION)


@situation
def garbled_last_words_start_the_job_anew_a_minute_later() -> Case:
    cluster = spoken("Traceback (most recent call last):")
    cluster.server.now += timedelta(seconds=60)
    return Case(cluster, VERSION)


@situation
def a_failed_job_is_tried_again_after_a_pause() -> Case:
    return Case(spoken("", exit_code=1), VERSION)


@situation
def files_in_another_format_than_wanted_are_refused() -> Case:
    return Case(spoken(last_words(), format="safetensors"), VERSION)


@situation
def a_version_fetched_and_verified_still_needs_approval() -> Case:
    cluster = pinned(begun(service()))
    cluster.put(model_node("node-a", artifact()))
    return Case(cluster, VERSION)


@situation
def a_version_is_wanted_on_the_node_of_the_plan_before_anybody_approved() -> Case:
    return Case(pinned(begun(service())), VERSION)


@situation
def a_broken_download_quarantines_the_version() -> Case:
    message = "chat-q4_k_m.gguf: needs sha256 1a, found 9f; fetch it again"
    failed = artifact(phase="Failed", message=message)
    cluster = approved(pinned(begun(service())))
    return Case(cluster.put(model_node("node-a", failed)), VERSION)


@situation
def an_approved_and_verified_version_is_ready() -> Case:
    return Case(ready_to_start(service()), VERSION)


@situation
def an_approval_by_the_author_is_ignored_with_a_reason() -> Case:
    return Case(approved(pinned(begun()), by="author"), VERSION)


@situation
def an_approval_made_without_the_gate_counts_for_nothing() -> Case:
    return Case(approved(pinned(begun(gate_is_green=False))), VERSION, gate_is_green=False)


@situation
def a_version_without_its_model_is_not_ready() -> Case:
    return Case(ready_to_start().remove("Model", NAMESPACE, "chat"), VERSION)


@situation
def a_node_that_lets_bytes_go_takes_no_proof_back() -> Case:
    return Case(ready_to_start().put(model_node("node-a")), VERSION)


# --- approvals, models, policies ----------------------------------------------------------------------


@situation
def an_approval_made_while_the_gate_was_in_force_is_countersigned() -> Case:
    cluster = pinned(begun())
    made = approval(cluster.get("ModelVersion", NAMESPACE, "chat-1"))
    return Case(cluster.put(made), Key("ModelApproval", NAMESPACE, made["metadata"]["name"]))


@situation
def a_model_counts_its_versions_and_names_the_newest_approved() -> Case:
    cluster = serving()
    cluster.edit("Model", NAMESPACE, "chat", {"spec": {"aliases": {"champion": "chat-1", "next": "chat-9"}}})
    return Case(pinned(cluster, "chat-2"), Key("Model", NAMESPACE, "chat"))


@situation
def a_policy_that_contradicts_itself_says_where() -> Case:
    broken = policy("broken")
    broken["spec"]["analysis"]["margins"] = {"latency": {"maxRegression": "40%", "unacceptable": "30%"}}
    return Case(begun(broken), Key("RolloutPolicy", NAMESPACE, "broken"))


# --- services: before anything runs -------------------------------------------------------------------


@situation
def a_service_waits_for_its_version_to_be_pinned() -> Case:
    return Case(begun(version(), service()))


@situation
def a_service_waits_for_approval_with_its_plan_and_no_pod() -> Case:
    return Case(proven(pinned(begun(service())), "chat-1"))


def wanted(*objects: Manifest, **more: Any) -> Cluster:
    """Return a cluster in which chat-1 may run and *objects* just came."""
    cluster = ready_to_start(**more)
    cluster.keys.clear()
    return cluster.put(*objects)


@situation
def a_first_version_starts_without_a_route() -> Case:
    return Case(wanted(service()))


@situation
def a_first_version_that_crashes_says_how() -> Case:
    cluster = wanted(service()).settle()
    last = {"reason": "OOMKilled", "exitCode": 137}
    loop = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    return Case(cluster.start_pods(ready=False, restarts=3, waiting=loop, last=last).settle())


@situation
def a_first_version_past_its_deadline_is_stalled() -> Case:
    cluster = wanted(service()).settle().start_pods(ready=False).settle()
    cluster.server.now += timedelta(minutes=31)
    return Case(cluster)


@situation
def a_first_version_that_is_ready_gets_the_whole_route() -> Case:
    cluster = wanted(service()).settle().start_pods().settle()
    cluster.server.now += timedelta(seconds=2)
    return Case(cluster)


@situation
def a_route_that_is_accepted_makes_the_service_ready() -> Case:
    return Case(serving())


@situation
def a_service_is_not_ready_before_its_first_route_is_accepted() -> Case:
    cluster = wanted(service()).settle().start_pods().settle()
    cluster.server.now += timedelta(seconds=2)
    return Case(cluster.resync())


@situation
def a_route_that_no_listener_takes_is_not_ready() -> Case:
    cluster = wanted(service()).settle().start_pods().settle()
    cluster.server.now += timedelta(seconds=2)
    cluster.settle().resync()
    return Case(
        cluster.accept_routes(accepted="False", message="No listener takes chat.example.com").settle()
    )


@situation
def a_service_that_fits_nowhere_says_so_with_numbers() -> Case:
    needs_much = {"name": "LlamaCpp", "contextTokens": 2048, "maxConcurrency": 4096}
    return Case(wanted(service(engine=needs_much)))


@situation
def a_service_waits_for_a_gpu_that_others_hold() -> Case:
    cluster = wanted(service())
    for name, of, count in (("train-a", "node-a", "2"), ("train-b", "node-b", "1")):
        limits = {"nvidia.com/gpu": count}
        cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "training"},
                "spec": {"nodeName": of, "containers": [{"name": "train", "resources": {"limits": limits}}]},
                "status": {"phase": "Running"},
            }
        )
    return Case(cluster)


@situation
def an_engine_argument_that_is_not_allowed_is_refused_by_name() -> Case:
    engine = {"name": "LlamaCpp", "extraArgs": ["--api-key", "abc"]}
    return Case(wanted(service(engine=engine)))


@situation
def an_engine_that_cannot_load_the_format_is_refused() -> Case:
    return Case(wanted(service(engine={"name": "vLLM"})))


@situation
def an_alias_is_followed_to_its_version() -> Case:
    cluster = ready_to_start()
    cluster.edit("Model", NAMESPACE, "chat", {"spec": {"aliases": {"champion": "chat-1"}}}).settle()
    return Case(cluster.put(service(model={"name": "chat", "alias": "champion"})))


@situation
def an_alias_that_is_not_set_is_told_with_those_that_are() -> Case:
    cluster = ready_to_start()
    cluster.edit("Model", NAMESPACE, "chat", {"spec": {"aliases": {"champion": "chat-1"}}}).settle()
    return Case(cluster.put(service(model={"name": "chat", "alias": "challenger"})))


@situation
def a_version_that_does_not_exist_is_told() -> Case:
    return Case(wanted(service(version_name="chat-9")))


@situation
def a_version_without_its_model_starts_nowhere_even_without_approvals() -> Case:
    cluster = proven(pinned(begun()), "chat-1").put(namespace("dev"))
    return Case(cluster.remove("Model", NAMESPACE, "chat").settle().put(service()))


@situation
def a_revoked_version_is_refused_to_a_new_service() -> Case:
    cluster = serving()
    approved(cluster, decision="Revoke", by="officer")
    return Case(cluster.put(service("second")), Key("InferenceService", NAMESPACE, "second"))


@situation
def a_pod_of_vllm_reads_safetensors_and_faces_the_callers_itself() -> Case:
    facts = {
        **{
            key: value
            for key, value in FACTS.items()
            if key not in ("mainFile", "quantization", "provenance")
        },
        "format": "safetensors",
        "architecture": "LlamaForCausalLM",
    }
    cluster = begun(version())
    cluster.finish_job(last_words(facts=facts)).settle()
    approved(proven(cluster, "chat-1"))
    return Case(cluster.put(service(engine={"name": "vLLM", "contextTokens": 2048})))


def holding(kind: str, main: str, model_type: str, **more: Any) -> Cluster:
    """Return a cluster in which chat-1 may run and holds one file of *kind*."""
    facts = {"format": kind, "mainFile": main, "uri": FACTS["uri"], "pickle": kind == "pickle"}
    governance = {"approvals": {"required": 1, "environments": ["prod"]}, "formats": {"allowed": [kind]}}
    cluster = begun(version(), **more).put(model(type=model_type, governance=governance)).settle()
    cluster.finish_job(last_words(facts=facts, files=1, bytes=1_482_000)).settle()
    return approved(proven(cluster, "chat-1"))


@situation
def a_pod_of_sglang_has_room_for_a_probe_that_makes_a_token() -> Case:
    dropped = ("mainFile", "quantization", "provenance")
    facts = {key: value for key, value in FACTS.items() if key not in dropped}
    cluster = begun(version())
    said = last_words(facts={**facts, "format": "safetensors", "architecture": "LlamaForCausalLM"})
    cluster.finish_job(said).settle()
    approved(proven(cluster, "chat-1"))
    engine = {"name": "SGLang", "contextTokens": 2048, "extraArgs": ["--schedule-policy=lpm"]}
    return Case(cluster.put(service(engine=engine)))


WITH_RUNTIME = merged(
    SETTINGS, {"images": {"engineImages": {"Predictive": "registry.example.com/predictive:0.1.0"}}}
)


@situation
def a_decision_table_goes_to_the_predictive_runtime_without_a_gpu() -> Case:
    cluster = holding("rules-json", "limits.rules.json", "Decision", settings=WITH_RUNTIME)
    return Case(cluster.put(service(engine={"name": "Auto"})), settings=WITH_RUNTIME)


@situation
def a_pickle_that_its_model_allows_runs_in_mlserver_unchanged() -> Case:
    cluster = holding("pickle", "model.joblib", "Predictive")
    return Case(cluster.put(service(engine={"name": "MLServer"})))


@situation
def a_pickle_that_nobody_allowed_by_name_waits_without_a_pod() -> Case:
    cluster = holding("pickle", "model.joblib", "Predictive")
    cluster.put(model(type="Predictive")).settle()
    return Case(cluster.put(service(engine={"name": "MLServer"})))


@situation
def a_pod_of_triton_mounts_the_version_under_the_models_name() -> Case:
    cluster = holding("ONNX", "model.onnx", "Predictive")
    return Case(cluster.put(service(engine={"name": "Triton"}, accelerator={"count": 1})))


@situation
def a_pod_of_the_users_own_image_stands_behind_the_meter() -> Case:
    custom = {"args": ["--model", "/model/files/chat-q4_k_m.gguf"], "healthPath": "/ready", "port": 9000}
    engine = {"name": "Custom", "image": "registry.example.com/own:3", "custom": custom}
    return Case(wanted(service(engine=engine, accelerator={"count": 1})))


@situation
def what_the_user_lays_over_the_pods_is_there() -> Case:
    more = {
        "accelerator": {"count": 2, "products": ["NVIDIA-L4"], "minMemory": "16Gi"},
        "placement": {
            "nodeSelector": {"kubernetes.io/hostname": "node-a"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "priorityClassName": "serving",
            "zones": ["zone-a", "zone-c"],
        },
        "podTemplate": {
            "labels": {"team": "assistants"},
            "annotations": {"example.com/cost": "7"},
            "resources": {"limits": {"cpu": "300m"}, "requests": {"memory": "1Gi"}},
        },
        "scaling": {"minReplicas": 1},
        "traffic": {"hostnames": ["chat.example.com"], "path": "/v1"},
    }
    return Case(wanted(service(**more)))


@situation
def a_refusal_of_the_server_stalls_the_service() -> Case:
    return Case(
        wanted(service()).settle(),
        refused=("RefusedByPolicy", "Deployment quickstart/chat: no; ask who owns that rule"),
    )


@situation
def a_service_without_gateway_is_served_by_its_services() -> Case:
    settings = {**SETTINGS, "gateway": {}}
    cluster = wanted(service(), settings=settings).settle().start_pods().settle()
    cluster.server.now += timedelta(seconds=2)
    return Case(cluster.resync(), settings=settings)


# --- services: while something runs -------------------------------------------------------------------


@situation
def a_candidate_starts_beside_stable() -> Case:
    return Case(pushed())


@situation
def an_unapproved_candidate_gets_no_pod_and_no_traffic() -> Case:
    cluster = serving()
    proven(pinned(cluster, "chat-2"), "chat-1", "chat-2")
    return Case(cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-2"}}}).settle())


@situation
def a_warm_candidate_gets_the_first_step() -> Case:
    cluster = pushed().settle()
    cluster.run(9)
    assert cluster.rollout("chat").phase is Phase.STARTING
    cluster.server.now += timedelta(seconds=2)
    return Case(cluster.answer())


@situation
def a_step_of_20_percent_waits_for_its_dwell() -> Case:
    return Case(at_step(20).run(5))


@situation
def a_step_is_raised_when_the_judge_sees_no_harm() -> Case:
    return Case(brink(at_step(20), Phase.PROGRESSING, 50))


@situation
def a_step_of_50_percent_waits_for_the_certificate() -> Case:
    return Case(at_step(50).run(3))


@situation
def a_raise_waits_while_metrics_are_away() -> Case:
    cluster = at_step(20)
    cluster.traffic.away_since = cluster.now
    return Case(cluster.run(90))


@situation
def an_hour_without_metrics_pauses_the_run() -> Case:
    cluster = at_step(20)
    cluster.traffic.away_since = cluster.now
    cluster.run(2)
    cluster.server.now += timedelta(hours=1)
    return Case(cluster.answer())


@situation
def a_route_that_is_not_accepted_in_time_pauses_the_run() -> Case:
    cluster = at_step(20)
    while cluster.rollout("chat").weight != 50:
        cluster.run(1, gateway=False)
    refuse = {"accepted": "False", "message": "the listener is gone"}
    cluster.accept_routes(**refuse).settle()
    cluster.server.now += timedelta(seconds=121)
    return Case(cluster)


@situation
def a_policy_that_goes_missing_in_mid_run_pauses_it() -> Case:
    return Case(at_step(20).remove("RolloutPolicy", NAMESPACE, "quickstart"))


@situation
def two_default_policies_start_no_step() -> Case:
    cluster = pushed()
    default = {"labels": {"modelops.dev/default-rollout-policy": "true"}}
    cluster.put(policy("one", **default), policy("two", **default))
    return Case(cluster.edit(*SERVICE, {"spec": {"rolloutPolicyRef": None}}).settle().run(20))


@situation
def a_certificate_begins_the_promotion() -> Case:
    return Case(brink(at_step(50), Phase.PROMOTING))


@situation
def a_promotion_moves_the_pointer_and_no_pod() -> Case:
    return Case(brink(at_step(50), Phase.BAKING))


@situation
def the_old_version_goes_when_the_route_no_longer_names_it() -> Case:
    return Case(brink(baking(), Phase.STABLE))


@situation
def the_old_version_stays_while_the_gateway_does_not_answer() -> Case:
    cluster = baking()
    cluster.settle()
    cluster.server.now += timedelta(minutes=10)
    return Case(cluster)


@situation
def a_worse_candidate_is_rolled_back_with_both_numbers() -> Case:
    cluster = at_step(20)
    cluster.traffic = Traffic(canary=WORSE)
    return Case(brink(cluster, Phase.ROLLING_BACK))


@situation
def a_rolled_back_candidate_leaves_the_route_before_its_pods_go() -> Case:
    cluster = at_step(20)
    cluster.traffic = Traffic(canary=WORSE)
    return Case(brink(cluster, Phase.ROLLED_BACK))


@situation
def a_rolled_back_candidate_goes_when_no_accepted_route_names_it() -> Case:
    cluster = at_step(20)
    cluster.traffic = Traffic(canary=WORSE)
    return Case(cluster.until("chat", Phase.ROLLED_BACK).answer())


@situation
def a_rejected_revision_applied_again_starts_nothing() -> Case:
    cluster = rolled_back()
    cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-1"}}}).settle()
    cluster.until("chat", Phase.STABLE)
    return Case(cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-2"}}}))


@situation
def a_newer_version_waits_until_traffic_left_the_older_candidate() -> Case:
    cluster = at_step(20)
    approved(proven(pinned(cluster, "chat-3"), "chat-1", "chat-2", "chat-3"), "chat-3")
    return Case(cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-3"}}}))


@situation
def a_newer_version_without_approval_never_starts_in_the_older_ones_place() -> Case:
    cluster = pushed().settle()
    proven(pinned(cluster, "chat-3"), "chat-1", "chat-2", "chat-3")
    return Case(cluster.edit(*SERVICE, {"spec": {"model": {"version": "chat-3"}}}))


@situation
def the_served_version_wanted_again_takes_its_traffic_back() -> Case:
    return Case(at_step(50).edit(*SERVICE, {"spec": {"model": {"version": "chat-1"}}}))


@situation
def a_revoked_version_keeps_running_and_says_so() -> Case:
    return Case(approved(serving(), decision="Revoke", by="officer"))


@situation
def an_approval_that_expires_takes_no_running_pod() -> Case:
    cluster = proven(pinned(begun()), "chat-1")
    approved(cluster, expiresAt="2026-01-05T10:00:00Z")
    cluster.put(service()).settle().until("chat", Phase.STABLE).run(20)
    cluster.server.now += timedelta(hours=2)
    return Case(cluster)


@situation
def a_revoked_candidate_is_paused_and_never_raised() -> Case:
    return Case(approved(at_step(20), "chat-2", decision="Revoke", by="officer"))


@situation
def a_scaled_service_keeps_its_template() -> Case:
    return Case(serving().edit(*SERVICE, {"spec": {"scaling": {"minReplicas": 2}}}))


@situation
def a_lost_status_is_rebuilt_and_restarts_nothing() -> Case:
    cluster = pushed().settle().until("chat", Phase.STARTING).run(3)
    return Case(cluster.edit(*SERVICE, {"status": None}))


@situation
def a_service_that_is_going_away_is_left_alone() -> Case:
    cluster = serving()
    going = {"metadata": {"deletionTimestamp": "2026-01-05T09:05:00Z", "finalizers": ["example.com/hold"]}}
    return Case(cluster.edit(*SERVICE, going))


# --- writing ------------------------------------------------------------------------------------------


def given(case: Case) -> dict[str, Any]:
    """Return what a given.yaml holds, its objects whole."""
    out: dict[str, Any] = {"now": f"{case.cluster.now:%Y-%m-%dT%H:%M:%SZ}", "root": str(case.root)}
    if case.settings != SETTINGS:
        out["settings"] = dict(case.settings)
    if not case.gate_is_green:
        out["gate"] = "not proven"
    if case.refused:
        out["refused"] = list(case.refused)
    traffic = case.cluster.traffic
    if traffic != Traffic():
        out["traffic"] = {"stable": dict(traffic.stable), "canary": dict(traffic.canary)}
        if traffic.away_since:
            out["traffic"]["awaySince"] = f"{traffic.away_since:%Y-%m-%dT%H:%M:%SZ}"
    found = sorted(case.cluster.server.objects.items())
    out["objects"] = [_kept(obj) for _, obj in found]
    return out


READ = {
    "Deployment": ("replicas",),
    "HTTPRoute": ("parentRefs", "rules"),
    "PersistentVolume": ("claimRef",),
    "PersistentVolumeClaim": ("volumeName",),
    "Service": (),
    "PodDisruptionBudget": (),
    "NetworkPolicy": (),
    "Job": (),
}
"""What the operator reads of the specs of its children; the rest would only make the files long."""


def _kept(obj: Manifest) -> Manifest:
    out = json.loads(json.dumps(obj))
    out["metadata"]["resourceVersion"] = "1000"  # equal objects of two cases become one file
    if out["kind"] in READ:
        out["spec"] = {part: out["spec"][part] for part in READ[out["kind"]]}
    return dict(out)


def text(value: Any) -> str:
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=110, default_flow_style=None, allow_unicode=True
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def read_objects(case: Path) -> dict[str, Any]:
    """Return a given with its objects whole: a name stands for a file in ``tests/golden/objects``."""
    found: dict[str, Any] = yaml.safe_load((case / "given.yaml").read_text())
    found["objects"] = [
        _read(OBJECTS / f"{obj}.yaml") if isinstance(obj, str) else obj for obj in found["objects"]
    ]
    return found


@cache
def _read(path: Path) -> Manifest:
    """Return a shared object; whoever takes it makes a copy."""
    return dict(yaml.safe_load(path.read_text()))


def write(cases: Mapping[str, dict[str, Any]]) -> None:
    """Write the cases; an object other than the root goes into a file that all cases share."""
    OBJECTS.mkdir(parents=True, exist_ok=True)
    for path in OBJECTS.glob("*.yaml"):
        path.unlink()
    for name, whole in sorted(cases.items()):
        root = whole["root"]
        listed = [obj if str(key_of(obj)) == root else _shared(obj) for obj in whole["objects"]]
        folder = GOLDEN / name
        folder.mkdir(exist_ok=True)
        (folder / "given.yaml").write_text(text({**whole, "objects": listed}))


def _shared(obj: Manifest) -> str:
    """Return the name of the file that holds *obj*; other contents under one name are numbered."""
    stem = f"{obj['kind']}-{obj['metadata']['name']}".lower()
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}.{number}"
        path = OBJECTS / f"{name}.yaml"
        if not path.exists():
            path.write_text(text(obj))
        if yaml.safe_load(path.read_text()) == obj:
            return name
        number += 1


def main() -> None:
    cases = {path.parent.name: read_objects(path.parent) for path in sorted(GOLDEN.glob("*/given.yaml"))}
    again = SITUATIONS if sys.argv[1:] == ["all"] else sys.argv[1:]
    for name, make in SITUATIONS.items():
        if name in again or name not in cases:
            cases[name] = given(make())
            print(name)
    write(cases)


if __name__ == "__main__":
    main()
