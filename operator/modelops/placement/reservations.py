"""Plans whose pods no node has bound yet: the GPUs they count on are not free for others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelops.placement.inventory import Inventory, NodeState


@dataclass(frozen=True, slots=True)
class Reservation:
    """Pods of one revision that are planned and not bound."""

    service: str
    """namespace/name, for the order: every plan reserves in the same one."""
    revision: str
    node: str
    """Where the plan wants the first of them."""
    product: str
    """Where the others may go: pods ask for the product, and only prefer the node."""
    resource: str
    gpus: int
    """Of one pod."""
    pods: int


def reserve(inventory: Inventory, reservations: Iterable[Reservation]) -> Inventory:
    """Return the inventory without what is reserved.

    Each pod takes its planned node while that has room, then the tightest node of the same product; one
    that finds none takes nothing, since nobody else could either.
    """
    after: dict[str, NodeState] = {}
    for wanted in sorted(reservations, key=lambda r: (r.service, r.revision)):
        for _ in range(wanted.pods):
            node = _room(inventory, after, wanted)
            if node is None:
                break
            after[node.name] = node.taking({wanted.resource: wanted.gpus})
    return inventory.replacing(after)


def _room(inventory: Inventory, after: Mapping[str, NodeState], wanted: Reservation) -> NodeState | None:
    """Return the node for one pod; *after* are those of which something is reserved already."""
    planned = after.get(wanted.node) or inventory.node(wanted.node)
    if planned is not None and planned.free(wanted.resource) >= wanted.gpus:
        return planned
    fitting = [
        node
        for node in (after.get(node.name, node) for node in inventory.nodes)
        if node.can_run_pods
        and (gpu := node.device(wanted.resource).gpu) is not None
        and gpu.product == wanted.product
        and node.free(wanted.resource) >= wanted.gpus
    ]
    return min(fitting, key=lambda node: (node.free(wanted.resource), node.name), default=None)
