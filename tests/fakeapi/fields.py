"""Who owns which field: the paths of a value, and values merged and cut by them.

A path is a tuple of elements as ``managedFields`` writes them: ``f:<name>`` for a field, ``k:<keys>`` for an
item of a list-map, ``v:<value>`` for an item of a set.  Source: sigs.k8s.io/structured-merge-diff, fieldpath.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fakeapi.kinds import SET, Names, Served

Path = tuple[str, ...]
Paths = frozenset[Path]


def paths(kind: Served, value: Any, at: Path = (), names: Names = ()) -> Iterator[Path]:
    """Yield the path of every leaf, and of every item of a list-map."""
    if isinstance(value, dict) and (value or not at):
        for name, item in value.items():
            yield from paths(kind, item, (*at, f"f:{name}"), (*names, name))
        return
    keys = kind.keys(names) if isinstance(value, list) and names else None
    if keys is None:
        yield at
    elif keys is SET:
        yield from ((*at, f"v:{_text(item)}") for item in value)
    else:
        for item in value:
            here = (*at, f"k:{_key(item, keys)}")
            yield here
            yield from paths(kind, item, here, names)


def merged(kind: Served, live: Any, wanted: Any, names: Names = ()) -> Any:
    """Return *live* with everything that *wanted* says."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        both = {k: merged(kind, live.get(k), v, (*names, k)) for k, v in wanted.items()}
        return {**live, **both}
    keys = kind.keys(names) if isinstance(wanted, list) and names else None
    if keys is None or not isinstance(live, list):
        return wanted
    if keys is SET:
        return [*live, *(item for item in wanted if item not in live)]
    rest = {_key(item, keys): item for item in live}
    new = {_key(item, keys): item for item in wanted}
    both = {key: merged(kind, rest[key], item, names) if key in rest else item for key, item in new.items()}
    return [both.pop(key, item) for key, item in rest.items()] + list(both.values())


def value_at(value: Any, path: Path) -> Any:
    """Return what stands at *path*; None when nothing does."""
    for element in path:
        value = _step(value, element)
        if value is None:
            return None
    return value


def without(value: Any, gone: Iterable[Path]) -> Any:
    """Return *value* without the leaves and items at *gone*; what becomes empty by that goes too."""
    by_head: dict[str, set[Path]] = {}
    for path in gone:
        by_head.setdefault(path[0], set()).add(path[1:])
    if isinstance(value, dict):
        out = {}
        for name, item in value.items():
            rest = by_head.get(f"f:{name}")
            left = item if rest is None else None if () in rest else without(item, rest)
            if left is not None:
                out[name] = left
        return out or None
    if isinstance(value, list):
        kept = []
        for item in value:
            rest = next((rests for head, rests in by_head.items() if _is(item, head)), None)
            left = item if rest is None else None if () in rest else without(item, rest)
            if left is not None:
                kept.append(left)
        return kept or None
    return value


def fields_v1(owned: Iterable[Path]) -> dict[str, Any]:
    """Return paths as the ``fieldsV1`` of a managedFields entry."""
    out: dict[str, Any] = {}
    for path in sorted(owned):
        here = out
        for element in path:
            here = here.setdefault(element, {})
        if path and path[-1].startswith("k:"):
            here["."] = {}
    return out


def _step(value: Any, element: str) -> Any:
    if element.startswith("f:"):
        return value.get(element[2:]) if isinstance(value, dict) else None
    return next((item for item in value if _is(item, element)), None) if isinstance(value, list) else None


def _is(item: Any, element: str) -> bool:
    if element.startswith("v:"):
        return _text(item) == element[2:]
    if not element.startswith("k:") or not isinstance(item, dict):
        return False
    wanted = json.loads(element[2:])
    return all(item.get(key) == value for key, value in wanted.items())


def _key(item: Any, keys: Names) -> str:
    # A port without a protocol is one of TCP.
    defaults = {"protocol": "TCP"}
    return _text({key: item.get(key, defaults.get(key)) for key in keys})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
