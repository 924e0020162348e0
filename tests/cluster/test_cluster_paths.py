"""What one cluster is called and where it lives, seen from outside."""

import ipaddress
from pathlib import Path

import pytest

from e2e.cluster import network, paths

NAMES = ("dev", "demo", "test", "int", "bench")


def a_layout(name: str) -> paths.Layout:
    return paths.layout(name, Path("/state"))


def test_clusters_that_run_side_by_side_share_no_address():
    blocks = [a_layout(name).block for name in NAMES]
    assert len(set(blocks)) == len(NAMES)


def test_clusters_that_run_side_by_side_share_no_interface_namespace_or_cgroup():
    layouts = [a_layout(name) for name in NAMES]
    used = [
        word
        for layout in layouts
        for word in (
            layout.interface,
            layout.lan_netns,
            *(node.netns for node in layout.nodes),
            *(node.cgroup for node in layout.nodes),
        )
    ]
    assert len(used) == len(set(used))


@pytest.mark.parametrize("name", NAMES)
def test_every_range_lies_in_the_block_and_none_overlaps_another(name):
    layout = a_layout(name)
    ranges = (layout.pods, layout.services, layout.lan)
    assert all(part.subnet_of(layout.block) for part in ranges)
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)


def test_nodes_have_pod_ranges_of_their_own():
    layout = a_layout("test")
    first, second = layout.nodes
    assert first.pods.subnet_of(layout.pods)
    assert second.pods.subnet_of(layout.pods)
    assert not first.pods.overlaps(second.pods)


def test_the_addresses_that_certificates_and_dns_use_are_services():
    layout = a_layout("test")
    assert layout.first_service == next(layout.services.hosts())
    assert layout.dns_address in layout.services
    assert layout.host_address in layout.lan


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="no name"),
        pytest.param("Test", id="upper case"),
        pytest.param("1st", id="a digit first"),
        pytest.param("a-b", id="a dash, which separates the parts of an interface name"),
        pytest.param("../test", id="a path"),
        pytest.param("integration", id="too long for an interface"),
    ],
)
def test_a_name_that_makes_no_interface_is_refused(name):
    with pytest.raises(ValueError, match="choose another name"):
        a_layout(name)


def test_the_longest_name_still_makes_an_interface():
    layout = a_layout("abcdefghi")
    assert len(layout.interface) <= 15  # IFNAMSIZ less the zero at its end


def test_an_unknown_node_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="n1, n2, found n3"):
        a_layout("test").node("n3")


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        pytest.param(("default", "192.0.2.0/24"), None, id="routes elsewhere"),
        pytest.param(("10.0.0.0/8",), "10.0.0.0/8", id="a wider route"),
        pytest.param(("10.7.3.0/24",), "10.7.3.0/24", id="a route inside"),
        pytest.param(("10.7.255.1",), "10.7.255.1", id="a single host"),
        pytest.param(("10.8.0.0/16",), None, id="the next block"),
        pytest.param(("default",), None, id="only a default route"),
    ],
)
def test_a_route_that_overlaps_is_found(routes, found):
    assert network.overlap(ipaddress.IPv4Network("10.7.0.0/16"), routes) == found
