"""Name every path, address, interface and cgroup of a cluster, all of them derived from its name.

Two clusters of different names share nothing, so a demo and a test cluster run side by side.
"""

import ipaddress
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")

_NAME = re.compile(r"[a-z][a-z0-9]{0,8}")  # "mo-<name>-n1" is an interface, a namespace and a cgroup
_FIRST_BLOCK = 100  # 10.100.0.0/16 is the first block a cluster may get
_BLOCKS = 100

REGISTRY_PORT = 5050  # not 5000: the distribution's own registry service listens there
API_PORT = 6443


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its place in the network and what its pretend GPUs are."""

    name: str
    address: ipaddress.IPv4Address
    pods: ipaddress.IPv4Network
    state: Path
    netns: str
    cgroup: str
    """Path below each cgroup hierarchy, with a leading slash."""

    @property
    def gpus(self) -> Path:
        """Return the file whose devices the GPU plugin advertises."""
        return self.state / "gpus.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one cluster lives.  One block 10.x.0.0/16 holds its pods, services and nodes."""

    name: str
    state: Path

    @property
    def block(self) -> ipaddress.IPv4Network:
        """Return the cluster's block: a checksum of the name chooses one of 100."""
        slot = zlib.crc32(self.name.encode()) % _BLOCKS
        return ipaddress.IPv4Network(f"10.{_FIRST_BLOCK + slot}.0.0/16")

    def _inside(self, third: int, last: int) -> ipaddress.IPv4Address:
        return self.block.network_address + third * 256 + last

    @property
    def pods(self) -> ipaddress.IPv4Network:
        """Return the range of all pods; node i has its i-th /24."""
        return ipaddress.IPv4Network(f"{self.block.network_address}/18")

    @property
    def services(self) -> ipaddress.IPv4Network:
        """Return the range of ClusterIPs."""
        return ipaddress.IPv4Network(f"{self._inside(128, 0)}/18")

    @property
    def lan(self) -> ipaddress.IPv4Network:
        """Return the range of the nodes and of the host's end of the bridge."""
        return ipaddress.IPv4Network(f"{self._inside(255, 0)}/24")

    @property
    def host_address(self) -> ipaddress.IPv4Address:
        """Return the host's address on the bridge."""
        return self._inside(255, 1)

    @property
    def dns_address(self) -> ipaddress.IPv4Address:
        """Return the ClusterIP of the cluster's DNS."""
        return self._inside(128, 10)

    @property
    def first_service(self) -> ipaddress.IPv4Address:
        """Return the ClusterIP of the API server."""
        return self._inside(128, 1)

    @property
    def server(self) -> str:
        """Return the API server's address as kubeconfigs name it."""
        return f"https://{self.nodes[0].address}:{API_PORT}"

    @property
    def registry(self) -> str:
        """Return host and port of the image registry."""
        return f"{self.host_address}:{REGISTRY_PORT}"

    @property
    def interface(self) -> str:
        """Return the host's end of the bridge."""
        return f"mo-{self.name}"

    @property
    def lan_netns(self) -> str:
        """Return the network namespace that holds the bridge."""
        return f"mo-{self.name}-lan"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes; the control plane uses the network of the first."""
        return tuple(
            Node(
                name=name,
                address=self._inside(255, 10 + index),
                pods=ipaddress.IPv4Network(f"{self._inside(index, 0)}/24"),
                state=self.state / "nodes" / name,
                netns=f"mo-{self.name}-{name}",
                cgroup=f"/mo-{self.name}-{name}",
            )
            for index, name in enumerate(NODES, start=1)
        )

    def node(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
            ValueError: there is no such node.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise ValueError(
            f"{self.name}: node must be one of {', '.join(NODES)}, found {name}; name one of them"
        )

    @property
    def pki(self) -> Path:
        """Return the folder of keys and certificates."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.state / "admin.kubeconfig"

    @property
    def audit(self) -> Path:
        """Return the record of what the product's accounts asked the API server for: JSON lines."""
        return self.logs / "audit.log"

    @property
    def logs(self) -> Path:
        """Return the folder with one log per process."""
        return self.state / "logs"


def layout(name: str, root: Path) -> Layout:
    """Return the layout of the cluster *name*, with its state below *root*.

    Raises:
        ValueError: the name cannot be used in interface names.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"cluster {name!r}: needs a lower-case letter and up to 8 letters or digits; choose another name"
        )
    return Layout(name, root / name)
