"""A real API server admits what each engine file renders, in a namespace that enforces `restricted`."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

GOLDEN = Path(__file__).parents[1] / "golden"
NAMESPACE = "restricted"
STRICT = {"dry_run": "All", "field_validation": "Strict"}
CASES = {
    "vLLM": "a-pod-of-vllm-reads-safetensors-and-faces-the-callers-itself",
    "SGLang": "a-pod-of-sglang-has-room-for-a-probe-that-makes-a-token",
    "LlamaCpp": "a-first-version-starts-without-a-route",
    "Predictive": "a-decision-table-goes-to-the-predictive-runtime-without-a-gpu",
    "MLServer": "a-pickle-that-its-model-allows-runs-in-mlserver-unchanged",
    "Triton": "a-pod-of-triton-mounts-the-version-under-the-models-name",
    "Custom": "a-pod-of-the-users-own-image-stands-behind-the-meter",
    "vLLM on a slice": "a-pod-asks-for-the-tightest-mig-slice-by-its-resource",
    "vLLM on a share": "a-share-of-a-gpu-leaves-the-other-shares-their-memory",
}
"""Shape, its name beginning with the engine, to the golden case that has it."""


def rendered(engine: str) -> dict[str, dict[str, Any]]:
    """Return the objects of the engine's golden plan by kind."""
    plan = yaml.safe_load((GOLDEN / CASES[engine] / "plan.yaml").read_text())
    found = {obj["kind"]: obj for obj in plan["apply"]}
    assert found["Deployment"]["metadata"]["labels"]["modelops.dev/engine"] == engine.partition(" ")[0]
    for obj in found.values():
        obj["metadata"] |= {"namespace": NAMESPACE}
        obj["metadata"].pop("ownerReferences", None)
    return found


def pod(engine: str) -> dict[str, Any]:
    template = rendered(engine)["Deployment"]["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)} | {
        "metadata": {**template["metadata"], "name": "engine", "namespace": NAMESPACE}
    }


@pytest.fixture(scope="module")
def core(api: Any) -> Iterator[client.CoreV1Api]:
    """The server with a namespace that enforces the level."""
    core = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig)))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": labels}})
    deadline = time.monotonic() + 30
    while not any(one.metadata.name == "default" for one in accounts(core)):
        assert time.monotonic() < deadline, "the namespace has no service account"
        time.sleep(0.1)
    yield core
    core.delete_namespace(NAMESPACE)


def accounts(core: client.CoreV1Api) -> list[Any]:
    return list(core.list_namespaced_service_account(NAMESPACE).items)


GROUPS = {
    "vLLM": "a-model-larger-than-a-node-is-served-by-a-group-of-nodes",
    "SGLang": "a-group-of-sglang-shares-the-layers-among-its-nodes",
}
TEMPLATE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
WHOLE = {"type": "integer", "minimum": 1}
GROUP_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "leaderworkersets.leaderworkerset.x-k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
    },
    "spec": {
        "group": "leaderworkerset.x-k8s.io",
        "names": {"kind": "LeaderWorkerSet", "plural": "leaderworkersets", "singular": "leaderworkerset"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "required": ["spec"],
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["leaderWorkerTemplate"],
                                "properties": {
                                    "replicas": WHOLE,
                                    "startupPolicy": {
                                        "enum": ["LeaderCreated", "LeaderReady"],
                                        "type": "string",
                                    },
                                    "networkConfig": {
                                        "type": "object",
                                        "required": ["subdomainPolicy"],
                                        "properties": {
                                            "subdomainPolicy": {
                                                "enum": ["Shared", "UniquePerReplica"],
                                                "type": "string",
                                            }
                                        },
                                    },
                                    "rolloutStrategy": {
                                        "type": "object",
                                        "required": ["type"],
                                        "properties": {
                                            "type": {"enum": ["RollingUpdate"], "type": "string"},
                                            "rollingUpdateConfiguration": {
                                                "type": "object",
                                                "properties": {
                                                    "maxUnavailable": {"x-kubernetes-int-or-string": True},
                                                    "maxSurge": {"x-kubernetes-int-or-string": True},
                                                },
                                            },
                                        },
                                    },
                                    "leaderWorkerTemplate": {
                                        "type": "object",
                                        "required": ["workerTemplate"],
                                        "properties": {
                                            "size": WHOLE,
                                            "restartPolicy": {
                                                "enum": ["RecreateGroupOnPodRestart", "None"],
                                                "type": "string",
                                            },
                                            "leaderTemplate": TEMPLATE,
                                            "workerTemplate": TEMPLATE,
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""The fields of kubernetes-sigs/lws 0.6 that are rendered; its own CRD was not at hand."""


@pytest.mark.parametrize("engine", GROUPS)
@pytest.mark.parametrize("part", ["leaderTemplate", "workerTemplate"])
def test_the_pods_of_a_group_are_admitted(core, engine, part):
    plan = yaml.safe_load((GOLDEN / GROUPS[engine] / "plan.yaml").read_text())
    (group,) = (obj for obj in plan["apply"] if obj["kind"] == "LeaderWorkerSet")
    template = group["spec"]["leaderWorkerTemplate"][part]
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    pod["metadata"] |= {"name": "engine", "namespace": NAMESPACE}
    admitted = core.create_namespaced_pod(NAMESPACE, pod, **STRICT)
    assert admitted.spec.automount_service_account_token is False


def test_a_group_is_taken_by_the_server(core):
    crds, objects = client.ApiextensionsV1Api(core.api_client), client.CustomObjectsApi(core.api_client)
    crds.create_custom_resource_definition(GROUP_CRD)
    where = ("leaderworkerset.x-k8s.io", "v1", NAMESPACE, "leaderworkersets")
    try:
        for case in GROUPS.values():
            plan = yaml.safe_load((GOLDEN / case / "plan.yaml").read_text())
            (group,) = (obj for obj in plan["apply"] if obj["kind"] == "LeaderWorkerSet")
            group["metadata"] |= {"namespace": NAMESPACE}
            group["metadata"].pop("ownerReferences")
            taken = created(objects, where, group)
            assert taken["spec"] == group["spec"], "a field was dropped or changed"
    finally:
        crds.delete_custom_resource_definition(GROUP_CRD["metadata"]["name"])


def created(objects: client.CustomObjectsApi, where: tuple[str, ...], body: dict[str, Any]) -> Any:
    """Return what the server makes of *body*, as soon as it serves the kind."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return objects.create_namespaced_custom_object(*where, body, **STRICT)
        except client.ApiException as error:
            if error.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("engine", CASES)
def test_the_pod_of_an_engine_is_admitted(core, engine):
    admitted = core.create_namespaced_pod(NAMESPACE, pod(engine), **STRICT)
    assert admitted.spec.automount_service_account_token is False
    assert admitted.spec.enable_service_links is False
    mounted = [m.mount_path for c in admitted.spec.containers for m in c.volume_mounts]
    assert not [path for path in mounted if path.startswith("/var/run/secrets")]


@pytest.mark.parametrize("path", sorted((GOLDEN / "families").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_engine_with_each_family_of_models_is_admitted(core, path):
    deployment = yaml.safe_load(path.read_text())
    template = deployment["spec"]["template"]
    template["metadata"] |= {"name": path.stem.lower(), "namespace": NAMESPACE}
    core.create_namespaced_pod(NAMESPACE, {"apiVersion": "v1", "kind": "Pod", **template}, **STRICT)
    deployment["metadata"] |= {"namespace": NAMESPACE}
    deployment["metadata"].pop("ownerReferences")
    client.AppsV1Api(core.api_client).create_namespaced_deployment(NAMESPACE, deployment, **STRICT)


@pytest.mark.parametrize("engine", CASES)
def test_nothing_of_an_engine_reaches_out(core, engine):
    objects = rendered(engine)
    core.create_namespaced_service(NAMESPACE, objects["Service"], **STRICT)
    networking = client.NetworkingV1Api(core.api_client)
    policy = networking.create_namespaced_network_policy(NAMESPACE, objects["NetworkPolicy"], **STRICT)
    assert policy.spec.policy_types == ["Ingress", "Egress"]
    assert not policy.spec.egress
    ports = {port.port for rule in policy.spec.ingress for port in rule.ports}
    declared = {p["containerPort"] for c in every_container(pod(engine)) for p in c.get("ports", ())}
    assert declared <= ports, "a port that the pod declares is shut"


def test_a_pod_with_a_folder_of_the_node_is_not_admitted(core):
    bad = pod("Triton")
    bad["spec"]["volumes"].append({"name": "node", "hostPath": {"path": "/"}})
    with pytest.raises(client.ApiException) as refused:
        core.create_namespaced_pod(NAMESPACE, bad, **STRICT)
    assert refused.value.status == 403
    assert "restricted" in str(refused.value.body)


def every_container(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]
