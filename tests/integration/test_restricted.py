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


@pytest.mark.parametrize("engine", CASES)
def test_the_pod_of_an_engine_is_admitted(core, engine):
    admitted = core.create_namespaced_pod(NAMESPACE, pod(engine), **STRICT)
    assert admitted.spec.automount_service_account_token is False
    assert admitted.spec.enable_service_links is False
    mounted = [m.mount_path for c in admitted.spec.containers for m in c.volume_mounts]
    assert not [path for path in mounted if path.startswith("/var/run/secrets")]


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
