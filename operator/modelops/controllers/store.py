"""Remember what the API server said last: small rows instead of whole objects.

All kinds kept here live in etcd, where one counter orders every resourceVersion; never put an
aggregated API in.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from modelops.api.names import APPLIED_HASH
from modelops.controllers.packing import pack, unpack
from modelops.plan import Manifest


class Key(NamedTuple):
    """Name one object; ``namespace`` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every row holds; kinds that are read for more subclass it."""

    namespace: str
    name: str
    uid: str
    resource_version: int
    owner: str = ""
    """uid of the controller; "" when there is none."""
    applied_hash: str = ""
    """Hash of what we wanted when we last applied it; "" when it is not ours."""

    @classmethod
    def of(cls, obj: Manifest, **more: Any) -> Self:
        """Return the row of *obj*; *more* are the fields that a subclass adds."""
        meta = obj["metadata"]
        return cls(
            namespace=sys.intern(meta.get("namespace") or ""),
            name=meta["name"],
            uid=meta["uid"],
            resource_version=int(meta["resourceVersion"]),
            owner=sys.intern(controller(meta)),
            applied_hash=(meta.get("annotations") or {}).get(APPLIED_HASH, ""),
            **more,
        )


_UNREAD = frozenset({"annotations", "managedFields", "resourceVersion", "selfLink"})
"""Metadata of own objects that no plan reads: two rows of an object are equal while nothing else changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRow(Row):
    """A whole object as packed JSON, but for metadata that no plan reads: a sixth of its text.

    Only a pass unpacks it.  What others ask of it at every event stands beside it, in a subclass.
    """

    packed: bytes

    @classmethod
    def of(cls, obj: Manifest, **more: Any) -> Self:
        """Return the row of *obj*."""
        meta = {key: value for key, value in obj["metadata"].items() if key not in _UNREAD}
        text = json.dumps({**obj, "metadata": meta}, separators=(",", ":"), ensure_ascii=False)
        # super() knows nothing of a slotted dataclass, which is another class than the one written here.
        return super(OwnRow, cls).of(obj, packed=pack(text.encode()), **more)

    @property
    def json(self) -> bytes:
        """The object as compact JSON."""
        return unpack(self.packed)


def controller(meta: Mapping[str, Any]) -> str:
    """Return the uid of the controlling owner, or ""."""
    for reference in meta.get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


Index = Callable[[Row], Iterable[str]]
"""The values under which a row is found again."""
Changed = Callable[[Row | None, Row | None], None]
"""Takes a row before and after a change; None: it was not there, or is gone."""

_GRAVES = 512

OWNER = "owner"
"""The index by the controller's uid, which every kind has."""


def _owner(row: Row) -> Iterable[str]:
    return (row.owner,) if row.owner else ()


@dataclass(slots=True)
class _Table:
    """The rows of one kind and their indexes.

    An index holds one place or a set of places by value: most values have one row.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=lambda: {OWNER: _owner})
    places: dict[str, dict[str, tuple[str, str] | set[tuple[str, str]]]] = field(
        default_factory=lambda: {OWNER: {}}
    )

    graves: dict[tuple[str, str], int] = field(default_factory=dict)
    """Versions of the last deletions.  The answer to a write may come after the watch told that the
    object is gone; without this it would come back and stay."""

    def bury(self, place: tuple[str, str], resource_version: int) -> None:
        self.graves[place] = resource_version
        if len(self.graves) > _GRAVES:
            del self.graves[next(iter(self.graves))]

    def hook(self, row: Row, place: tuple[str, str]) -> None:
        for name, values in self.indexes.items():
            places = self.places[name]
            for value in values(row):
                found = places.get(value)
                if found is None or found == place:
                    places[value] = place
                elif isinstance(found, set):
                    found.add(place)
                else:
                    places[value] = {found, place}

    def unhook(self, row: Row) -> None:
        place = (row.namespace, row.name)
        for name, values in self.indexes.items():
            places = self.places[name]
            for value in values(row):
                found = places.get(value)
                if isinstance(found, set):
                    found.discard(place)
                    if len(found) == 1:
                        places[value] = found.pop()
                elif found == place:
                    del places[value]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a kind cannot be seen: the cluster does not have it, or the operator may not list it."""

    is_absent: bool
    told: str
    """What the server said."""


class Store:
    """Rows by kind, namespace and name."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._unseen: dict[str, Unseen] = {}
        self._hooks: dict[str, list[Changed]] = {}

    def lose(self, kind: str, why: Unseen) -> bool:
        """Remember that *kind* cannot be seen; return whether that is news.

        The watches of several namespaces say the same in other words: the first ones are kept.
        """
        known = self._unseen.get(kind)
        if known is not None and known.is_absent == why.is_absent:
            return False
        self._unseen[kind] = why
        return True

    def regain(self, kind: str) -> bool:
        """Remember that *kind* can be seen; return whether it could not."""
        return self._unseen.pop(kind, None) is not None

    def unseen(self, kind: str) -> Unseen | None:
        """Return why *kind* cannot be seen; None: it can."""
        return self._unseen.get(kind)

    def add_index(self, kind: str, name: str, values: Index) -> None:
        """Find rows of *kind* by what *values* returns; before the first row only."""
        table = self._table(kind)
        if table.rows:
            raise ValueError(f"{kind}: an index needs an empty table, found {len(table.rows)} rows")
        table.indexes[name] = values
        table.places[name] = {}

    def on_change(self, kind: str, hook: Changed) -> None:
        """Call *hook* with the row before and the row now whenever a row of *kind* comes, changes or goes."""
        self._hooks.setdefault(kind, []).append(hook)

    def put(self, kind: str, row: Row) -> bool:
        """Keep *row* when it is newer than what is stored under its name, whatever the uid.

        Return whether it was kept.
        """
        table = self._table(kind)
        place = (row.namespace, row.name)  # one tuple for the row and all of its indexes
        before = table.rows.get(place)
        if before is not None:
            if row.resource_version <= before.resource_version:
                return False
            table.unhook(before)
            del table.rows[place]  # else the old tuple would stay as the key
        elif row.resource_version <= table.graves.get(place, 0):
            return False
        table.rows[place] = row
        table.hook(row, place)
        self._changed(kind, before, row)
        return True

    def drop(self, kind: str, namespace: str, name: str, uid: str, resource_version: int = 0) -> Row | None:
        """Remove and return the row when its uid is *uid*; else return None.

        *resource_version* is that of the deletion: what was written before it is refused afterwards.
        """
        table = self._table(kind)
        place = (namespace, name)
        row = table.rows.get(place)
        if row is None or row.uid != uid:
            return None
        del table.rows[place]
        table.unhook(row)
        table.bury(place, max(row.resource_version, resource_version))
        self._changed(kind, row, None)
        return row

    def _changed(self, kind: str, before: Row | None, after: Row | None) -> None:
        for hook in self._hooks.get(kind, ()):
            hook(before, after)

    def get(self, kind: str, namespace: str | None, name: str) -> Row | None:
        """Return the row, or None."""
        return self._table(kind).rows.get((namespace or "", name))

    def rows(self, kind: str, namespace: str | None = None) -> Iterator[Row]:
        """Return every row of *kind*, of one namespace when given, in no order."""
        return (
            row
            for row in tuple(self._table(kind).rows.values())
            if namespace is None or row.namespace == namespace
        )

    def find(self, kind: str, index: str, value: str) -> tuple[Row, ...]:
        """Return the rows of *kind* that the index holds under *value*, by namespace and name."""
        table = self._table(kind)
        found = table.places[index].get(value)
        if found is None:
            return ()
        return tuple(table.rows[place] for place in (sorted(found) if isinstance(found, set) else (found,)))

    def owned(self, kind: str, uid: str) -> tuple[Row, ...]:
        """Return the rows of *kind* whose controller is *uid*, by namespace and name."""
        return self.find(kind, OWNER, uid)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of rows and of index entries over all kinds, to prove that nothing is left behind."""
        tables = self._tables.values()
        entries = sum(len(places) for table in tables for places in table.places.values())
        return sum(len(table.rows) for table in tables), entries

    def _table(self, kind: str) -> _Table:
        table = self._tables.get(kind)
        if table is None:
            table = self._tables[sys.intern(kind)] = _Table()
        return table
