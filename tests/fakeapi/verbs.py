"""What each verb does to the state: create, update, apply, patch, delete, with every precondition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakeapi import answers, patches
from tests.fakeapi.defaults import filled
from tests.fakeapi.fields import Path, Paths, merged, paths, value_at, without
from tests.fakeapi.kinds import Served
from tests.fakeapi.state import Obj, Owner, Place, State, Stored, same

SYSTEM = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
"""Metadata that only the server writes."""
_UNOWNED = frozenset({"name", "namespace", "generateName", "resourceVersion", "managedFields", *SYSTEM})
_SET_ON_CREATE = "resourceVersion should not be set on objects to be created"


@dataclass(frozen=True)
class Write:
    """Where a write goes, by whom, and whether it is only tried."""

    state: State
    kind: Served
    namespace: str
    name: str
    manager: str = "unknown"
    subresource: str = ""
    is_dry: bool = False

    @property
    def before(self) -> Stored | None:
        return self.state.get(self.kind, self.namespace, self.name)

    @property
    def plural(self) -> str:
        return self.kind.resource.plural

    def found(self) -> Stored:
        before = self.before
        if before is None:
            raise answers.not_found(self.plural, self.name)
        return before


def create(write: Write, body: Obj) -> Obj:
    """Store a new object.

    Raises:
        Refusal: one of this name exists.
    """
    meta = body.setdefault("metadata", {})
    name = meta.get("name") or f"{meta.get('generateName', '')}{write.state.version:05x}"
    write = Write(**{**write.__dict__, "name": name})
    if write.before is not None:
        raise answers.exists(write.plural, name)
    if meta.get("resourceVersion"):
        raise answers.Refusal(500, "InternalError", _SET_ON_CREATE)
    owner = Owner(write.manager, "Update")
    obj = _new(write, body)
    owners = {owner: _owned(write.kind, obj)}
    return _save(write, None, obj, owners, owner)


def replace(write: Write, body: Obj) -> Obj:
    """Replace an object; a resourceVersion in *body* is compared, and without one it wins."""
    before = write.found()
    _check(write, before, body)
    return _update(write, before, body)


def patch(write: Write, body: Any, *, is_merge: bool) -> Obj:
    """Merge *body* into the object, or carry out its operations."""
    before = write.found()
    old = before.fresh()
    new = patches.merge(old, body) if is_merge else patches.json_patch(old, body)
    if not is_merge or isinstance(body, Mapping):
        _check(write, before, body if is_merge else new)
    return _update(write, before, new)


def apply(write: Write, body: Obj, *, force: bool) -> Obj:
    """Apply *body* under the manager's name: what it left out since the last time is removed."""
    before = write.before
    owner = Owner(write.manager, "Apply", write.subresource)
    if before is None:
        return _created(write, body, owner)
    _check(write, before, body, ignores_uid=bool(write.subresource))
    wanted = _scope(write, body)
    mine = frozenset(paths(write.kind, wanted))
    live = before.fresh()
    owners = _taken(write, before, owner, mine, wanted, live, force=force)
    gone = before.owners.get(owner, frozenset()) - mine
    gone = {path for path in gone if not any(path in owned for owned in owners.values())}
    obj = merged(write.kind, live, wanted)
    obj = without(obj, _without_owned_below(gone, owners, mine)) or {}
    owners[owner] = mine
    return _save(write, before, _kept(write, before, obj), owners, owner)


def delete(write: Write, options: Mapping[str, Any]) -> Obj:
    """Delete under preconditions; finalizers keep the object, going."""
    before = write.found()
    obj = before.fresh()
    meta = obj["metadata"]
    given = options.get("preconditions") or {}
    for what, name, found in (("UID", "uid", before.uid), ("ResourceVersion", "resourceVersion", None)):
        found = found or str(before.version)
        if given.get(name) and given[name] != found:
            raise answers.precondition(write.plural, write.name, what, given[name], found)
    if write.is_dry or (meta.get("finalizers") and meta.get("deletionTimestamp")):
        return obj
    if meta.get("finalizers"):
        meta["deletionTimestamp"] = write.state.stamp()
        meta["deletionGracePeriodSeconds"] = 0
        if "generation" in meta:
            meta["generation"] += 1
        return write.state.commit(write.kind, obj, before.owners).fresh()
    return write.state.remove(write.kind, before).fresh()


# --- apply -------------------------------------------------------------------------------------------


def _created(write: Write, body: Obj, owner: Owner) -> Obj:
    """Create by apply: never a status, and never with a uid."""
    if write.subresource:
        raise answers.not_found(write.plural, write.name)
    meta = body["metadata"]
    if meta.get("uid"):
        found = "" if write.before is None else write.before.uid
        raise answers.precondition(write.plural, write.name, "UID", meta["uid"], found)
    obj = _new(write, body)  # a resourceVersion alone keeps nothing from being created
    return _save(write, None, obj, {owner: frozenset(paths(write.kind, _scope(write, body)))}, owner)


def _taken(
    write: Write, before: Stored, owner: Owner, mine: Paths, wanted: Obj, live: Obj, *, force: bool
) -> dict[Owner, Paths]:
    """Return the owners after *owner* took what it changes; equal values are shared.

    Raises:
        Refusal: without *force*, somebody else owns a value that would change.
    """
    changed = {path for path in mine if value_at(wanted, path) != value_at(live, path)}
    changed = {path for path in changed if not path[-1].startswith("k:")}
    owners = {other: owned for other, owned in before.owners.items() if other != owner}
    hit = {path: other for other, owned in owners.items() for path in owned & changed}
    if hit and not force:
        raise answers.owned_by_others({_dotted(path): other.manager for path, other in hit.items()})
    return {other: owned - changed for other, owned in owners.items()}


def _without_owned_below(gone: set[Path], owners: Mapping[Owner, Paths], mine: Paths) -> set[Path]:
    """Return the paths to remove, but no item of a list in which somebody still owns a field."""
    kept = mine.union(*owners.values()) if owners else mine
    return {path for path in gone if not any(other[: len(path)] == path for other in kept)}


def _dotted(path: Path) -> str:
    return "".join(f".{e[2:]}" if e.startswith("f:") else f"[{e[2:]}]" for e in path)


# --- update ------------------------------------------------------------------------------------------


def _update(write: Write, before: Stored, body: Obj) -> Obj:
    """Store *body* in place of *before*: who changes a field owns it alone."""
    owner = Owner(write.manager, "Update", write.subresource)
    obj = _kept(write, before, body)
    old, new = _scope(write, before.fresh()), _scope(write, obj)
    was, now = set(paths(write.kind, old)), set(paths(write.kind, new))
    changed = {path for path in now if path not in was or value_at(old, path) != value_at(new, path)}
    lost = changed | (was - now)
    owners = {other: owned - lost for other, owned in before.owners.items()}
    owners[owner] = frozenset(owners.get(owner, frozenset()) | changed)
    return _save(write, before, obj, owners, owner)


def _check(write: Write, before: Stored, body: Mapping[str, Any], *, ignores_uid: bool = False) -> None:
    """Compare uid and resourceVersion, where *body* names them."""
    meta = body.get("metadata") or {}
    uid, version = meta.get("uid"), meta.get("resourceVersion")
    if uid and uid != before.uid and not ignores_uid:
        raise answers.invalid(
            write.plural, write.name, f'metadata.uid: Invalid value: "{uid}": field is immutable'
        )
    if version and version != str(before.version):
        raise answers.stale(write.plural, write.name)


# --- underneath --------------------------------------------------------------------------------------


def _new(write: Write, body: Obj) -> Obj:
    """Return *body* as a new object: system metadata is the server's, a status is left out."""
    place = Place(write.kind.resource.api_version, write.plural, write.namespace, write.name)
    skip = (*SYSTEM, "managedFields", "resourceVersion")
    meta = {k: v for k, v in body["metadata"].items() if k not in skip}
    meta |= {"name": write.name, "uid": write.state.new_uid(place), "creationTimestamp": write.state.stamp()}
    if write.kind.resource.namespaced:
        meta["namespace"] = write.namespace
    if write.kind.has_generation:
        meta["generation"] = 1
    obj = {**body, "kind": write.kind.resource.kind, "metadata": meta}
    if write.kind.has_status:
        obj.pop("status", None)
    return filled(obj)


def _kept(write: Write, before: Stored, obj: Obj) -> Obj:
    """Return *obj* with what this path cannot change as it was before."""
    old = before.fresh()
    if write.subresource == "status":
        return {**old, "status": obj.get("status")} if obj.get("status") is not None else _no_status(old)
    system = {k: old["metadata"][k] for k in (*SYSTEM, "managedFields", "namespace") if k in old["metadata"]}
    meta = {k: v for k, v in obj["metadata"].items() if k not in SYSTEM} | {"name": write.name, **system}
    obj = {**obj, "kind": write.kind.resource.kind, "metadata": meta}
    if write.kind.has_status:
        obj = {**_no_status(obj), **({"status": old["status"]} if "status" in old else {})}
    return filled(obj)


def _no_status(obj: Obj) -> Obj:
    return {name: value for name, value in obj.items() if name != "status"}


def _save(write: Write, before: Stored | None, obj: Obj, owners: Mapping[Owner, Paths], by: Owner) -> Obj:
    """Commit unless nothing changed; a going object without finalizers goes."""
    owners = {owner: owned for owner, owned in owners.items() if owned}
    if before is None:
        return obj if write.is_dry else write.state.commit(write.kind, obj, owners, by).fresh()
    old = before.fresh()
    if same(old, obj) and owners == dict(before.owners):
        return old
    meta = obj["metadata"]
    if write.kind.has_generation and _asked(old) != _asked(obj):
        meta["generation"] = old["metadata"].get("generation", 0) + 1
    if write.is_dry:
        return obj
    stored = write.state.commit(write.kind, obj, owners, by)
    if meta.get("deletionTimestamp") and not meta.get("finalizers"):
        return write.state.remove(write.kind, stored).fresh()
    return stored.fresh()


def _asked(obj: Obj) -> Obj:
    """Return what counts for the generation: everything but metadata and status."""
    return {k: v for k, v in obj.items() if k not in ("metadata", "status", "apiVersion", "kind")}


def _scope(write: Write, obj: Obj) -> Obj:
    """Return the fields that this path can own."""
    if write.subresource == "status":
        return {"status": obj["status"]} if obj.get("status") is not None else {}
    return _owned_part(write.kind, obj)


def _owned(kind: Served, obj: Obj) -> Paths:
    return frozenset(paths(kind, _owned_part(kind, obj)))


def _owned_part(kind: Served, obj: Obj) -> Obj:
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _UNOWNED}
    skip = ("apiVersion", "kind", "metadata", *(("status",) if kind.has_status else ()))
    rest = {k: v for k, v in obj.items() if k not in skip}
    return {**({"metadata": meta} if meta else {}), **rest}
