"""Which layers, providers and users a cluster is asked for, and what is said when it cannot."""

import tomllib
from pathlib import Path

import pytest
import yaml

import e2e.cluster
from e2e.cluster import existing, node, paths
from e2e.cluster.interface import with_needed


@pytest.mark.parametrize(
    ("asked", "brought_up"),
    [
        pytest.param({"control-plane"}, ("control-plane",), id="the API server alone"),
        pytest.param({"nodes"}, ("control-plane", "nodes"), id="nodes need the API server"),
        pytest.param({"addons"}, ("control-plane", "nodes", "addons"), id="add-ons need nodes"),
        pytest.param(set(), ("control-plane",), id="nothing named is the least there is"),
    ],
)
def test_a_layer_brings_those_that_it_needs(asked, brought_up):
    assert with_needed(asked) == brought_up


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="control-plane, nodes, addons, found gateway"):
        with_needed({"gateway"})


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="auto, existing, kind, native, found minikube"):
        e2e.cluster.open("test", "minikube")


@pytest.mark.parametrize(
    ("ask", "variable"),
    [
        pytest.param(lambda cluster: cluster.registry, "MODELOPS_REGISTRY", id="the registry"),
        pytest.param(lambda cluster: cluster.gateway_address(), "MODELOPS_GATEWAY", id="the Gateway"),
        pytest.param(lambda cluster: cluster.prometheus_url(), "MODELOPS_PROMETHEUS", id="Prometheus"),
        pytest.param(lambda cluster: cluster.up(), "MODELOPS_CONTEXT", id="the context"),
    ],
)
def test_an_existing_cluster_asks_for_the_variable_that_it_lacks(ask, variable):
    with pytest.raises(RuntimeError, match=f"needs {variable}, found it unset"):
        ask(existing.Existing("test", {}))


def test_an_existing_cluster_says_what_the_user_said():
    given = {"MODELOPS_REGISTRY": "registry.test:5000", "MODELOPS_GATEWAY": "gateway.test:8080"}
    cluster = existing.Existing("test", given)
    assert cluster.image_prefix == "registry.test:5000"
    assert cluster.gateway_address() == ("gateway.test", 8080)


def test_impersonation_keeps_the_administrators_credentials(tmp_path):
    admin = tmp_path / "admin.kubeconfig"
    admin.write_text(yaml.safe_dump({"users": [{"name": "a", "user": {"token": "t"}}]}))
    config = yaml.safe_load(existing.impersonating(admin, "alice", ["ops"]).read_text())
    assert config["users"][0]["user"] == {"token": "t", "as": "alice", "as-groups": ["ops"]}


def test_containerd_is_told_our_pause_image_and_our_registry():
    layout = paths.layout("test", Path("/state"))
    config = tomllib.loads(node.containerd_config(layout))
    plugins = config["plugins"]
    assert plugins["io.containerd.cri.v1.images"]["registry"]["config_path"] == "/state/test/certs.d"
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"].startswith("localhost/")
    hosts = tomllib.loads(node.hosts_toml("http://10.0.0.1:5050"))
    assert hosts["host"]["http://10.0.0.1:5050"]["capabilities"] == ["pull", "resolve"]
