"""Write the CustomResourceDefinitions from the types: ``python -m modelops.api.crd --out crds/``."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelops.api.kinds import KINDS
from modelops.api.meta import INT_OR_STRING_KEY, LIST_TYPE_KEY, PRESERVE_KEY, RULES_KEY, Column, Resource
from modelops.api.names import GROUP, VERSION

Schema = dict[str, Any]

_HEADER = "# Written by `make crds` from the types in operator/modelops/api; do not edit.\n"
_COPIED = (
    "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum", "required", RULES_KEY, LIST_TYPE_KEY, "x-kubernetes-list-map-keys",
    PRESERVE_KEY,
)  # fmt: skip
_HANDLED = {
    "type", "$ref", "$defs", "allOf", "anyOf", "title", "default", "const", "format", "properties", "items",
    "additionalProperties", "exclusiveMinimum", "exclusiveMaximum", "uniqueItems", "discriminator",
    "examples", INT_OR_STRING_KEY, *_COPIED,
}  # fmt: skip
_FORMATS = {
    "date-time", "date", "byte", "int32", "int64", "uuid", "ipv4", "ipv6", "cidr", "uri", "hostname", "email",
    "password", "double", "float", "duration",
}  # fmt: skip
_TYPES = {"object", "array", "string", "integer", "number", "boolean"}
_AGE = Column("Age", ".metadata.creationTimestamp", "date")


class NotStructural(ValueError):
    """A type that a CustomResourceDefinition cannot say; the message holds the path."""


def custom_resource_definition(kind: type[Resource]) -> Schema:
    """Return the CustomResourceDefinition of *kind* as it goes to the server."""
    names = kind.names
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in (*kind.columns, _AGE)],
        "schema": {"openAPIV3Schema": object_schema(kind)},
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if names.is_namespaced else "Cluster",
            "names": {
                "kind": names.kind,
                "listKind": f"{names.kind}List",
                "plural": names.plural,
                "singular": names.kind.lower(),
                "shortNames": [names.short],
                "categories": ["modelops"],
            },
            "versions": [version],
        },
    }


def object_schema(kind: type[Resource]) -> Schema:
    """Return the structural schema of one object; what the server checks by itself is left to it."""
    given = kind.model_json_schema(by_alias=True, mode="validation")
    properties = {name: part for name, part in given["properties"].items() if name in ("spec", "status")}
    body = given | {"properties": properties, "required": ["spec"] if "spec" in properties else []}
    return structural(body, given.get("$defs", {}), kind.names.kind)


def structural(
    schema: Mapping[str, Any], defs: Mapping[str, Any], path: str, inside: tuple[str, ...] = ()
) -> Schema:
    """Return *schema*, as pydantic writes it, in the subset that the API server takes.

    *path* is where it stands, *inside* the definitions that enclose it.

    Raises:
        NotStructural: it recurses, has no type, or unites several types.

    Source: the Kubernetes documentation on structural schemas; research/kopf.md 8 has the table.
    """
    flat, inside = _flatten(schema, defs, path, inside)
    unknown = set(flat) - _HANDLED
    if unknown:
        raise NotStructural(f"{path}: cannot say {', '.join(sorted(unknown))}; use another type")
    result: Schema = {key: flat[key] for key in _COPIED if flat.get(key) not in (None, [])}
    if flat.get(INT_OR_STRING_KEY):
        return result | {INT_OR_STRING_KEY: True}
    kind = flat.get("type")
    if kind not in _TYPES:
        raise NotStructural(f"{path}: wanted one type, found {kind}; use one of {', '.join(sorted(_TYPES))}")
    if "const" in flat:
        result["enum"] = [flat["const"]]
    return {"type": kind} | result | _by_type(kind, flat, defs, path, inside)


def _flatten(
    schema: Mapping[str, Any], defs: Mapping[str, Any], path: str, inside: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Return *schema* with references, single `allOf` and optional `anyOf` put in their place.

    What stands beside them wins, as a field's text over its class's; rules of both hold.
    """
    flat = dict(schema)
    while True:
        if "$ref" in flat:
            name = flat.pop("$ref").rsplit("/", 1)[-1]
            if name in inside:
                raise NotStructural(f"{path}: {name} holds itself; a CRD cannot recurse, end it at a depth")
            part, inside = defs[name], (*inside, name)
        elif "anyOf" in flat or "allOf" in flat:
            options = [o for o in flat.pop("anyOf", None) or flat.pop("allOf") if o.get("type") != "null"]
            if len(options) != 1:
                if flat.get(INT_OR_STRING_KEY):
                    return flat, inside
                raise NotStructural(f"{path}: unites {len(options)} types; use one optional field for each")
            part = options[0]
        else:
            return flat, inside
        rules = [*part.get(RULES_KEY, ()), *flat.get(RULES_KEY, ())]
        flat = {**part, **flat} | ({RULES_KEY: rules} if rules else {})


def _by_type(kind: str, flat: Schema, defs: Mapping[str, Any], path: str, inside: tuple[str, ...]) -> Schema:
    match kind:
        case "object":
            return _object(flat, defs, path, inside)
        case "array":
            default = "set" if flat.get("uniqueItems") else "atomic"
            items = structural(flat.get("items", {}), defs, f"{path}[]", inside)
            return {LIST_TYPE_KEY: flat.get(LIST_TYPE_KEY, default), "items": items}
        case "integer":
            return {"format": flat.get("format", "int64")} | _bounds(flat)
        case "number":
            return _bounds(flat)
        case _:
            return {"format": flat["format"]} if flat.get("format") in _FORMATS else {}


def _object(flat: Schema, defs: Mapping[str, Any], path: str, inside: tuple[str, ...]) -> Schema:
    if "properties" in flat:
        parts = flat["properties"].items()
        return {
            "properties": {name: structural(part, defs, f"{path}.{name}", inside) for name, part in parts}
        }
    values = flat.get("additionalProperties", False)
    if values is True:
        return {PRESERVE_KEY: True}
    if not values:
        return {}
    return {"additionalProperties": structural(values, defs, f"{path}{{}}", inside)}


def _bounds(flat: Schema) -> Schema:
    bounds: Schema = {}
    for name, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in flat:
            bounds |= {name: flat[exclusive], exclusive: True}
    return bounds


def _column(column: Column) -> Schema:
    entry: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return entry | ({"priority": 1} if column.wide else {})


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(crd: Schema) -> str:
    """Return *crd* as text; equal types give equal text."""
    return yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def to_template(crd: Schema) -> str:
    """Return *crd* as a chart template, kept on uninstall unless the values say otherwise."""
    name = f"  name: {crd['metadata']['name']}\n"
    keep = "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    text = to_yaml(crd).replace("{{", '{{ "{{" }}').replace(name, name + keep, 1)
    return f"{{{{- if .Values.crds.enabled }}}}\n{_HEADER}{text}{{{{- end }}}}\n"


def files(out: Path, chart: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield each generated file with its text: plain ones for *out*, templates for *chart*."""
    for kind in KINDS:
        crd = custom_resource_definition(kind)
        yield out / f"{kind.names.plural}.yaml", _HEADER + to_yaml(crd)
        if chart is not None:
            yield chart / f"{kind.names.plural}.yaml", to_template(crd)


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """Return the files that differ from *wanted*, and those beside them that nobody wants."""
    differ = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    folders = sorted({path.parent for path in wanted})
    return differ + [
        path for folder in folders for path in sorted(folder.glob("*.yaml")) if path not in wanted
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` name those that are stale; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m modelops.api.crd", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the plain files")
    parser.add_argument("--chart", type=Path, help="folder of the chart's templates")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    given = parser.parse_args(arguments)
    wanted = dict(files(given.out, given.chart))
    if given.check:
        old = stale(wanted)
        for path in old:
            print(f"{path}: differs from the types in operator/modelops/api; run make crds", file=sys.stderr)
        return 1 if old else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
