"""Make and remove a cluster's network: namespaces, a bridge, veth pairs and static routes.

The bridge lives in a namespace of its own; the host has one interface on it and routes to pods
and services, so a program on the host calls a pod or a ClusterIP directly.
"""

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from e2e.cluster.paths import Layout, Node
from e2e.cluster.progress import run

NETNS = "/run/netns"


def check(layout: Layout) -> None:
    """Refuse a cluster whose block this machine routes elsewhere.

    Raises:
        RuntimeError: a route overlaps with the block.
    """
    found = None if layout.lan_netns in namespaces() else overlap(layout.block, routes())
    if found is not None:
        raise RuntimeError(
            f"cluster {layout.name}: needs {layout.block} for itself, found a route to {found}; "
            "choose another cluster name, each name has its own block"
        )


def up(layout: Layout) -> None:
    """Make the network; one that exists is kept."""
    if layout.lan_netns in namespaces():
        return
    _ip("netns", "add", layout.lan_netns)
    _ip("-n", layout.lan_netns, "link", "add", "bridge", "type", "bridge")
    _ip("-n", layout.lan_netns, "link", "set", "bridge", "up")
    _ip("link", "add", layout.interface, "type", "veth", "peer", "name", "host", "netns", layout.lan_netns)
    _plug(layout, "host")
    _ip("addr", "add", f"{layout.host_address}/{layout.lan.prefixlen}", "dev", layout.interface)
    _ip("link", "set", layout.interface, "up")
    for node in layout.nodes:
        _connect(layout, node)
        _ip("route", "add", str(node.pods), "via", str(node.address), "dev", layout.interface)
    _ip("route", "add", str(layout.services), "via", str(layout.nodes[0].address), "dev", layout.interface)


def down(layout: Layout) -> None:
    """Remove the interface, with it the routes, and the namespaces; what is gone is fine."""
    for name in namespaces() & {layout.lan_netns, *(node.netns for node in layout.nodes)}:
        _ip("netns", "delete", name)
    if layout.interface in interfaces():  # a deleted namespace takes its veth along, but later
        _ip("link", "delete", layout.interface)


def inside(netns: str) -> tuple[str, ...]:
    """Return the words that run a command in a network namespace.

    ``ip netns exec`` would remount /sys and hide the cgroups.
    """
    return ("nsenter", f"--net={NETNS}/{netns}")


def namespaces() -> frozenset[str]:
    """Return the names of this machine's named network namespaces."""
    return frozenset(entry["name"] for entry in _listed("netns", "list"))


def interfaces() -> frozenset[str]:
    """Return the names of the host's interfaces."""
    return frozenset(entry["ifname"] for entry in _listed("link", "show"))


def routes() -> tuple[str, ...]:
    """Return the destinations of the host's IPv4 routes, as ``ip route`` names them."""
    return tuple(entry["dst"] for entry in _listed("-4", "route", "show", "table", "main"))


def overlap(block: ipaddress.IPv4Network, destinations: Iterable[str]) -> str | None:
    """Return the first destination that overlaps with *block*, or None; a default route never does."""
    for destination in destinations:
        if destination != "default" and ipaddress.IPv4Network(destination, strict=False).overlaps(block):
            return destination
    return None


def _connect(layout: Layout, node: Node) -> None:
    _ip("netns", "add", node.netns)
    _ip(
        "-n",
        layout.lan_netns,
        "link",
        "add",
        node.name,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        node.netns,
    )
    _plug(layout, node.name)
    _ip("-n", node.netns, "addr", "add", f"{node.address}/{layout.lan.prefixlen}", "dev", "eth0")
    for interface in ("lo", "eth0"):
        _ip("-n", node.netns, "link", "set", interface, "up")
    for other in layout.nodes:
        if other.name != node.name:
            _ip("-n", node.netns, "route", "add", str(other.pods), "via", str(other.address))
    # A packet to a ClusterIP needs a route before kube-proxy's rules can turn it to a pod.
    _ip("-n", node.netns, "route", "add", str(layout.services), "dev", "eth0")
    run([*inside(node.netns), "sysctl", "-qw", "net.ipv4.ip_forward=1"])


def _plug(layout: Layout, interface: str) -> None:
    _ip("-n", layout.lan_netns, "link", "set", interface, "master", "bridge")
    _ip("-n", layout.lan_netns, "link", "set", interface, "up")


def _listed(*args: str) -> list[Any]:
    listed: list[Any] = json.loads(run(["ip", "-json", *args]) or "[]")
    return listed


def _ip(*args: str) -> None:
    run(["ip", *args])
