"""Say what a cluster is to a test or a demo, whoever provides it."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster.faults import Faults
from e2e.cluster.kubectl import Kubectl

LAYERS = ("control-plane", "nodes", "addons")
"""Each needs those before it: the API server; nodes with GPUs and a registry; DNS, Prometheus, Gateway."""

Say = Callable[[str], None]


class Cluster(Protocol):
    """A cluster of one name."""

    @property
    def name(self) -> str:
        """Return the name that all its parts are derived from."""

    def up(self, layers: Collection[str] = LAYERS, say: Say = print, *, background: bool = False) -> None:
        """Bring up what is missing of *layers* and of those they need; may be repeated.

        With *background* the add-ons come up in a thread; what needs them waits for them.

        Raises:
            RuntimeError: this machine or this cluster cannot; the text is one sentence.
        """

    def down(self) -> None:
        """Remove all that ``up`` made."""

    def status(self) -> dict[str, str]:
        """Return what runs and where: process, node or address, and its state."""

    def restart_node(self, node: str) -> None:
        """Start a node again, after a crash of it or now, and wait until it is Ready."""

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig that acts as *user* in *groups*."""

    @property
    def kubectl(self) -> Kubectl:
        """Return kubectl as the administrator."""

    @property
    def registry(self) -> str:
        """Return where images are pushed to from this machine, as host:port."""

    @property
    def image_prefix(self) -> str:
        """Return what pods name instead of the registry's address."""

    def gateway_address(self) -> tuple[str, int]:
        """Return host and port of the Gateway, reachable from this machine; waits until it is programmed."""

    def prometheus_url(self) -> str:
        """Return Prometheus' address, reachable from this machine; waits until it is installed."""

    @property
    def faults(self) -> Faults:
        """Return what can be broken."""


def with_needed(layers: Collection[str]) -> tuple[str, ...]:
    """Return the layers asked for and all that they need.

    Raises:
        ValueError: there is no such layer.
    """
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(f"layer must be one of {', '.join(LAYERS)}, found {layer}; name one of them")
    last = max((LAYERS.index(layer) for layer in layers), default=0)
    return LAYERS[: last + 1]
