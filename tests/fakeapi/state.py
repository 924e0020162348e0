"""What is stored: objects under one version counter, and the history of every change."""

import json
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from tests.fakeapi.fields import Paths, fields_v1
from tests.fakeapi.kinds import Served

Obj = dict[str, Any]


class Place(NamedTuple):
    """Where one object is stored; ``namespace`` is "" for cluster-scoped kinds."""

    api_version: str
    plural: str
    namespace: str
    name: str


class Owner(NamedTuple):
    """Who wrote fields, and how: ``Apply`` or ``Update``."""

    manager: str
    operation: str
    subresource: str = ""


@dataclass(frozen=True)
class Stored:
    """One version of an object."""

    place: Place
    text: bytes
    """The whole object as JSON; apiVersion and kind come first."""
    version: int
    uid: str
    labels: Mapping[str, str]
    owners: Mapping[Owner, Paths]

    def fresh(self) -> Obj:
        """Return the object, to be changed at will."""
        found: Obj = json.loads(self.text)
        return found


@dataclass(frozen=True)
class Change:
    """One line of history; ``before`` is None for a new object."""

    version: int
    type: str
    now: Stored
    before: Stored | None


@dataclass
class History:
    """Every change of one kind, oldest first."""

    changes: list[Change] = field(default_factory=list)
    wakes: set[Callable[[], None]] = field(default_factory=set)

    def after(self, version: int) -> int:
        """Return the place of the first change after *version*."""
        return bisect_right(self.changes, version, key=lambda change: change.version)


class State:
    """All objects.  One counter numbers every change; uids are the same in every run."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self.version = 1000
        self.compacted = 0
        """Histories before this version are gone."""
        self.objects: dict[tuple[str, str], dict[tuple[str, str], Stored]] = {}
        self.histories: dict[tuple[str, str], History] = {}
        self.hooks: list[Callable[[Change], None]] = []
        """Called after each change."""
        self._made: dict[Place, int] = {}

    def stamp(self) -> str:
        """Return the time as Kubernetes prints it."""
        return f"{self.now().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

    def of(self, kind: Served) -> dict[tuple[str, str], Stored]:
        """Return the objects of one kind by (namespace, name)."""
        return self.objects.setdefault((kind.resource.api_version, kind.resource.plural), {})

    def history(self, kind: Served) -> History:
        return self.histories.setdefault((kind.resource.api_version, kind.resource.plural), History())

    def get(self, kind: Served, namespace: str, name: str) -> Stored | None:
        return self.of(kind).get((namespace, name))

    def new_uid(self, place: Place) -> str:
        """Return another uid each time that the name is given."""
        self._made[place] = self._made.get(place, 0) + 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{'/'.join(place)} {self._made[place]}"))

    def commit(
        self, kind: Served, obj: Obj, owners: Mapping[Owner, Paths], by: Owner | None = None
    ) -> Stored:
        """Store *obj*, written by *by*, under the next version and tell everybody."""
        meta = obj["metadata"]
        before = self.get(kind, meta.get("namespace") or "", meta["name"])
        stored = self._next(kind, obj, owners, by)
        self.of(kind)[stored.place.namespace, stored.place.name] = stored
        self._tell(kind, Change(stored.version, "MODIFIED" if before else "ADDED", stored, before))
        return stored

    def remove(self, kind: Served, before: Stored, *, silently: bool = False) -> Stored:
        """Remove the object; with *silently* no watch learns of it."""
        last = self._next(kind, before.fresh(), before.owners, None)
        del self.of(kind)[before.place.namespace, before.place.name]
        change = Change(last.version, "DELETED", last, before)
        if silently:
            for hook in self.hooks:
                hook(change)
        else:
            self._tell(kind, change)
        return last

    def compact(self) -> None:
        """Forget every change until now: who watches from an older version gets 410."""
        self.version += 1
        self.compacted = self.version

    def _next(self, kind: Served, obj: Obj, owners: Mapping[Owner, Paths], by: Owner | None) -> Stored:
        self.version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self.version)
        owners = {owner: owned for owner, owned in owners.items() if owned}
        meta["managedFields"] = self._managed_fields(obj, owners, by)
        if not meta["managedFields"]:
            del meta["managedFields"]
        resource = kind.resource
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        text = json.dumps({**head, **obj, **head}, separators=(",", ":"), ensure_ascii=False).encode()
        place = Place(resource.api_version, resource.plural, meta.get("namespace") or "", meta["name"])
        return Stored(place, text, self.version, meta["uid"], dict(meta.get("labels") or {}), owners)

    def _managed_fields(
        self, obj: Obj, owners: Mapping[Owner, Paths], by: Owner | None
    ) -> list[dict[str, Any]]:
        """Return one entry for each owner; only that of *by* gets a new time."""
        known = {
            Owner(e["manager"], e["operation"], e.get("subresource", "")): e["time"]
            for e in (obj["metadata"].get("managedFields") or ())
        }
        return [
            self._entry(obj, owner, owned, known[owner] if owner in known and owner != by else self.stamp())
            for owner, owned in owners.items()
        ]

    def _entry(self, obj: Obj, owner: Owner, owned: Paths, time: str) -> dict[str, Any]:
        entry = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": obj.get("apiVersion", ""),
            "time": time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _fields_v1(owned),
        }
        return {**entry, "subresource": owner.subresource} if owner.subresource else entry

    def _tell(self, kind: Served, change: Change) -> None:
        history = self.history(kind)
        history.changes.append(change)
        for hook in self.hooks:
            hook(change)
        for wake in tuple(history.wakes):
            wake()


@lru_cache(maxsize=512)
def _fields_v1(owned: Paths) -> dict[str, Any]:
    """Return the fields as they are printed; objects of one shape share them, so they are never changed."""
    return fields_v1(owned)


def same(one: Obj, other: Obj) -> bool:
    """Return whether two objects differ in nothing that counts as a change."""
    return _bare(one) == _bare(other)


def _bare(obj: Obj) -> Obj:
    skip = ("managedFields", "resourceVersion")
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k not in skip}}
