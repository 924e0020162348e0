"""The seam between the loop and the kinds: what a kind must tell so that the loop can run it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from prometheus_client.core import Metric

from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube
from modelops.controllers.clock import Clock
from modelops.controllers.observations import Observations
from modelops.controllers.store import Index, Key, Row, Store
from modelops.plan import Manifest, Plan
from modelops.settings import Settings


class Root(Protocol):
    """A kind of our own that is planned: gather, decide.  The loop acts.

    Both are plain functions without waiting: what comes from outside is an observation.
    """

    @property
    def resource(self) -> Resource:
        """Where the kind lives."""

    def gather(self, key: Key, store: Store) -> Any | None:
        """Return the frozen snapshot that the plan is made from; None leaves the object alone."""

    def plan(self, seen: Any, now: datetime) -> Plan:
        """Return what should be true of *seen* at *now*."""


Project = Callable[[Manifest], Row]
"""Makes the row of an object."""
Keys = Callable[[Row, Store], Iterable[Key]]
"""Names the roots to plan again when this row came, changed or went."""
Drifted = Callable[[Row, Manifest], bool]
"""Says whether the row shows that a wanted child was changed by somebody else."""


def has_not_drifted(row: Row, wanted: Manifest) -> bool:
    """Say that nothing the row holds can drift."""
    return False


@dataclass(frozen=True, slots=True)
class Watched:
    """One kind to watch, and what to do with it.

    Own kinds (``is_own``) come through kopf and are kept whole (`store.OwnRow`); a reflector watches
    the others.
    """

    resource: Resource
    project: Project
    keys: Keys
    is_own: bool = False
    is_optional: bool = False
    """True: the kind may be absent from the cluster, and is asked for each minute."""
    may_be_denied: bool = False
    """True: the operator goes on without the right to list the kind, asks each minute, and plans say so."""
    is_extra: bool = False
    """True: nothing depends on a child of this kind; what cannot be made is told, and the plan goes on."""
    is_named: bool = False
    """True: where the operator serves some namespaces only, the objects of their names are asked for one by
    one, and the kind is never listed."""
    labels: str = ""
    """Label selector that the server applies."""
    indexes: tuple[tuple[str, Index], ...] = ()
    drifted: Drifted = has_not_drifted


Background = Callable[[], Awaitable[None]]
"""Runs while this replica leads; it never ends, and is started again when it fails."""


class Told(Protocol):
    """Metrics of what the leader knows, made at each scrape."""

    def changed(self, before: Row, after: Row) -> None:
        """Take note that a stored object changed."""

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a kind may build itself from."""

    settings: Settings
    kube: Kube
    store: Store
    observations: Observations
    clock: Clock


@dataclass(frozen=True, slots=True)
class Kinds:
    """Everything that the loop runs."""

    roots: tuple[Root, ...] = ()
    watched: tuple[Watched, ...] = ()
    background: tuple[tuple[str, Background], ...] = ()
    """Name and function."""
    figures: tuple[Told, ...] = ()

    def __add__(self, other: "Kinds") -> "Kinds":
        return Kinds(
            self.roots + other.roots,
            self.watched + other.watched,
            self.background + other.background,
            self.figures + other.figures,
        )


Assemble = Callable[[Parts], Kinds]
