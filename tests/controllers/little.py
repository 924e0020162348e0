"""A loop with small kinds: a Widget, kept whole, its ConfigMap, and a PodMonitor that it can do without."""

from dataclasses import dataclass, field
from typing import Any

from modelops.clients.kinds import Resource, register, resource_of
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.seam import Watched
from modelops.controllers.store import Key, OwnRow, Row, Store

WIDGET = Resource("little.example.com/v1", "Widget", "widgets")
CONFIG_MAP = resource_of("v1", "ConfigMap")
MONITOR = resource_of("monitoring.coreos.com/v1", "PodMonitor")
register(WIDGET)


def obj(kind: str, name: str, uid: str, version: int, owner: str = "", **more: Any) -> dict[str, Any]:
    """Return an object as the API server gives it."""
    meta: dict[str, Any] = {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version)}
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True, "name": owner}]
    api_version = WIDGET.api_version if kind == "Widget" else "v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **more}


def key(name: str) -> Key:
    return Key("Widget", "n", name)


def _own(row: Row, store: Store) -> tuple[Key, ...]:
    return (Key("Widget", row.namespace, row.name),)


def _owner(row: Row, store: Store) -> tuple[Key, ...]:
    """The owner's uid is its name here."""
    return (Key("Widget", row.namespace, row.owner),) if row.owner else ()


WATCHED = (
    Watched(WIDGET, OwnRow.of, _own, is_own=True),
    Watched(CONFIG_MAP, Row.of, _owner, is_optional=True, labels="a=b"),
    Watched(MONITOR, Row.of, _owner, is_optional=True, may_be_denied=True, is_extra=True),
)


@dataclass
class Little:
    """Everything up to the door of the store."""

    store: Store = field(default_factory=Store)
    queue: Queue[Key] = field(default_factory=Queue)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.queue = Queue(lambda: self.now, lambda low, high: 0.0)
        self.observations = Observations(self.queue.add)
        self.observer = Observer(WATCHED, self.store, self.queue, self.observations)

    def woken(self) -> list[str]:
        """Take every waiting key and return the names."""
        names = []
        while (taken := self.queue.take()) is not None:
            names.append(taken.name)
            self.queue.done(taken)
        return names
