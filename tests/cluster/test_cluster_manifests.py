"""What is installed into a cluster and what its nodes say about themselves."""

from pathlib import Path

import pytest
import yaml

from e2e.cluster import addons, node

MANIFESTS = Path(addons.__file__).parent / "manifests"
VALUES = {
    "DNS_ADDRESS": "10.100.128.10",
    "SERVICE_TYPE": "ClusterIP",
    "COREDNS": "localhost/coredns:1",
    "PROMETHEUS": "localhost/prometheus:1",
    "ENVOY": "localhost/envoy:1",
}


def rendered(name: str) -> list[dict]:
    text = addons.render((MANIFESTS / f"{name}.yaml").read_text(), VALUES)
    assert "@" not in text
    return list(yaml.safe_load_all(text))


def only(name: str, kind: str) -> dict:
    (found,) = (entry for entry in rendered(name) if entry["kind"] == kind)
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in MANIFESTS.glob("*.yaml")))
def test_every_image_was_built_here_and_is_never_pulled_when_there(name):
    for entry in rendered(name):
        for container in entry.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            assert container["image"].startswith("localhost/")
            assert container["imagePullPolicy"] == "IfNotPresent"


def test_the_gateway_takes_routes_of_every_namespace():
    gateway = only("gateway", "Gateway")
    assert (gateway["metadata"]["namespace"], gateway["metadata"]["name"]) == addons.GATEWAY
    (listener,) = gateway["spec"]["listeners"]
    assert (listener["name"], listener["protocol"], listener["port"]) == ("http", "HTTP", 80)
    assert listener["allowedRoutes"] == {"namespaces": {"from": "All"}}


def test_the_gateway_lets_a_silent_stream_live():
    policy = only("gateway", "ClientTrafficPolicy")
    assert policy["spec"]["timeout"]["http"]["streamIdleTimeout"] == "1h"


def test_prometheus_names_a_sample_after_its_pod_and_our_labels():
    config = yaml.safe_load(only("prometheus", "ConfigMap")["data"]["prometheus.yml"])
    assert config["global"]["scrape_interval"] == "2s"
    (job,) = config["scrape_configs"]
    targets = {rule.get("target_label") for rule in job["relabel_configs"]}
    assert {"namespace", "pod", "node"} <= targets
    (mapped,) = (rule for rule in job["relabel_configs"] if rule.get("action") == "labelmap")
    assert mapped["replacement"] == "modelops_$1"


def test_prometheus_is_where_pods_look_for_it():
    service = only("prometheus", "Service")
    namespace, name, port = addons.PROMETHEUS
    assert (service["metadata"]["namespace"], service["metadata"]["name"]) == (namespace, name)
    assert service["spec"]["ports"][0]["port"] == port
    assert f"http://{name}.{namespace}.svc.cluster.local:{port}" == addons.PROMETHEUS_URL


def test_the_two_nodes_differ_in_product_and_memory():
    first, second = (node.labels(node.GPUS[name]) for name in ("n1", "n2"))
    assert (first["nvidia.com/gpu.product"], first["nvidia.com/gpu.memory"]) == (
        "NVIDIA-H100-80GB-HBM3",
        "81559",
    )
    assert (second["nvidia.com/gpu.product"], second["nvidia.com/gpu.memory"]) == ("NVIDIA-L4", "23034")
    assert first["topology.kubernetes.io/zone"] != second["topology.kubernetes.io/zone"]


@pytest.mark.parametrize("name", sorted(node.GPUS))
def test_a_label_value_is_one_that_the_server_takes(name):
    for key, value in node.labels(node.GPUS[name]).items():
        assert len(value) <= 63, key
        assert value.replace("-", "").replace(".", "").isalnum(), key
