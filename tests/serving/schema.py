"""Say what the API server would refuse or drop of an object, from the schema of its kind."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from modelops.api.crd import object_schema
from modelops.api.kinds import KINDS

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
SCHEMAS = {kind.names.kind: object_schema(kind) for kind in KINDS}


def complaints(kind: str, part: str, value: Any) -> list[str]:
    """Return what is wrong with the *part* (spec or status) of an object of *kind*, with its path."""
    return list(_walk(SCHEMAS[kind]["properties"][part], value, part))


def _walk(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        return
    wanted = TYPES[schema["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and schema["type"] != "boolean"):
        yield f"{path}: wanted {schema['type']}, found {value!r}"
    elif isinstance(value, dict):
        yield from _object(schema, value, path)
    elif isinstance(value, list):
        yield from _list(schema, value, path)
    else:
        yield from _scalar(schema, value, path)


def _object(schema: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{path}: wanted at most {schema['maxProperties']} fields, found {len(value)}"
    yield from (f"{path}.{name}: is required" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name in known:
            yield from _walk(known[name], item, f"{path}.{name}")
        elif extra:
            yield from _walk(extra, item, f"{path}.{name}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: is unknown, the server drops it"


def _list(schema: dict[str, Any], value: list[Any], path: str) -> Iterator[str]:
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{path}: wanted at most {schema['maxItems']} items, found {len(value)}"
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        found = [tuple(item.get(key) for key in keys) for item in value]
        if len(set(found)) != len(found):
            yield f"{path}: has an item twice"
    for index, item in enumerate(value):
        yield from _walk(schema["items"], item, f"{path}[{index}]")


def _scalar(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if value not in schema.get("enum", (value,)):
        yield f"{path}: wanted one of {schema['enum']}, found {value!r}"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{path}: wanted another length, found {len(value)} letters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: wanted {schema['pattern']}, found {value!r}"
        if schema.get("format") == "date-time" and not _is_instant(value):
            yield f"{path}: wanted an instant, found {value!r}"
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: wanted {schema.get('minimum')} to {schema.get('maximum')}, found {value}"


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
