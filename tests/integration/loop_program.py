"""The operator with one small kind of its own: a Widget wants a ConfigMap that repeats its text."""

import argparse
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelops.clients import kinds
from modelops.clients.kinds import Resource
from modelops.controllers import main
from modelops.controllers.reading import Reading
from modelops.controllers.seam import Kinds, Parts, Watched
from modelops.controllers.store import Key, OwnRow, Row, Store
from modelops.plan import Event, Plan, Ref

WIDGET = Resource("loop.example.com/v1", "Widget", "widgets")
CONFIG_MAP = kinds.resource_of("v1", "ConfigMap")
ROUTE = kinds.resource_of("gateway.networking.k8s.io/v1", "HTTPRoute")
LABEL = "loop.example.com/widget"
kinds.register(WIDGET)

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.loop.example.com"},
    "spec": {
        "group": "loop.example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"text": {"type": "string"}, "none": {"type": "boolean"}},
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "observedGeneration": {"type": "integer", "format": "int64"},
                                    "text": {"type": "string"},
                                    "refused": {"type": "string"},
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One Widget and its ConfigMaps."""

    obj: dict[str, Any]
    children: tuple[Row, ...]
    refused: str | None


class Widgets:
    """Plan a Widget."""

    resource = WIDGET
    rests = True

    def gather(self, key: Key, reading: Reading) -> Seen | None:
        row = reading.get(*key)
        if not isinstance(row, OwnRow):
            return None
        refused = reading.refused()
        return Seen(reading.loaded(row), reading.owned("ConfigMap", row.uid), refused and refused.code)

    def plan(self, seen: Seen, now: datetime) -> Plan:
        meta, text = seen.obj["metadata"], seen.obj["spec"].get("text", "")
        before = (seen.obj.get("status") or {}).get("text")
        status = {"observedGeneration": meta["generation"], "text": text, "refused": seen.refused}
        events = (Event("Normal", "Repeated", f"repeats {text!r}"),) if before != text else ()
        if seen.obj["spec"].get("none"):
            gone = tuple(Ref("v1", "ConfigMap", row.namespace, row.name, row.uid) for row in seen.children)
            return Plan(status=status, delete=gone)
        return Plan(status=status, apply=(_config_map(meta, text),), events=events, after=timedelta(hours=1))


def _config_map(meta: dict[str, Any], text: str) -> dict[str, Any]:
    owner = {"apiVersion": WIDGET.api_version, "kind": "Widget", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "namespace": meta["namespace"],
            "name": meta["name"],
            "labels": {LABEL: meta["name"]},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "data": {"text": text},
    }


def _own_key(row: Row, store: Store) -> tuple[Key, ...]:
    return (Key("Widget", row.namespace, row.name),)


def _owner_key(row: Row, store: Store) -> tuple[Key, ...]:
    return tuple(
        Key("Widget", widget.namespace, widget.name)
        for widget in store.rows("Widget", row.namespace)
        if widget.uid == row.owner
    )


def assemble(parts: Parts) -> Kinds:
    """Return the one kind, its children, and a child kind that the cluster does not have."""
    return Kinds(
        roots=(Widgets(),),
        watched=(
            Watched(WIDGET, OwnRow.of, _own_key, is_own=True),
            Watched(CONFIG_MAP, Row.of, _owner_key, labels=LABEL),
            Watched(ROUTE, Row.of, _owner_key, is_optional=True),
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    main.add(parser.add_subparsers())
    sys.exit(main.run(parser.parse_args(["operator", *sys.argv[1:]]), assemble))
