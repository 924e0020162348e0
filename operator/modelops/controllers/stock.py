"""Keep the inventory up to date by the changes of single rows: a pod changes one node, not the cluster."""

from collections.abc import Iterator

from modelops.controllers import rows
from modelops.controllers.store import Row, Store
from modelops.placement.inventory import Inventory, PodUse, inventory, renewed


class Stock:
    """What all nodes have and what pods take of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used: dict[str, dict[str, int]] = {}
        self._touched: set[str] = set()
        self._is_stale = True
        self._inventory = Inventory()
        store.on_change("Pod", self._pod_changed)
        store.on_change("Node", self._node_changed)
        store.on_change("ModelNode", self._report_changed)

    def inventory(self) -> Inventory:
        """Return the cluster as it is now."""
        if self._is_stale:
            self._inventory = self._whole()
        elif self._touched:
            self._inventory = renewed(self._inventory, {n: self._used.get(n, {}) for n in self._touched})
        self._is_stale = False
        self._touched.clear()
        return self._inventory

    def _whole(self) -> Inventory:
        nodes = [row.node for row in self._store.rows("Node") if isinstance(row, rows.NodeStored)]
        reports = [row.gpus for row in self._store.rows("ModelNode") if isinstance(row, rows.ModelNodeStored)]
        return inventory(nodes, self._uses(), [gpus for gpus in reports if gpus is not None])

    def _uses(self) -> Iterator[PodUse]:
        return (PodUse(node, used) for node, used in self._used.items())

    def _pod_changed(self, before: Row | None, after: Row | None) -> None:
        uses = [row.use if isinstance(row, rows.PodStored) else None for row in (before, after)]
        if uses[0] == uses[1]:
            return
        for use, sign in zip(uses, (-1, 1), strict=True):
            if use is not None:
                self._add(use, sign)

    def _add(self, use: PodUse, sign: int) -> None:
        used = self._used.setdefault(use.node, {})
        for resource, count in use.requests.items():
            used[resource] = used.get(resource, 0) + sign * count
            if not used[resource]:
                del used[resource]
        if not used:
            del self._used[use.node]
        self._touched.add(use.node)

    def _node_changed(self, before: Row | None, after: Row | None) -> None:
        nodes = [row.node if isinstance(row, rows.NodeStored) else None for row in (before, after)]
        self._is_stale |= nodes[0] != nodes[1]

    def _report_changed(self, before: Row | None, after: Row | None) -> None:
        reports = [row.gpus if isinstance(row, rows.ModelNodeStored) else None for row in (before, after)]
        self._is_stale |= reports[0] != reports[1]
