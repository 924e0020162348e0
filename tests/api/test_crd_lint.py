"""Every generated schema keeps the rules of the house."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from modelops.api.crd import custom_resource_definition, to_yaml
from modelops.api.kinds import KINDS
from modelops.api.meta import Resource

BY_NAME = {kind.names.kind: kind for kind in KINDS}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)

REFUSED = frozenset(
    """
Model.spec.governance.evaluation
Model.spec.governance.images
Model.spec.governance.licenses
Model.spec.governance.remoteCode
Model.spec.governance.signature
Model.spec.retention
Model.spec.retraining
Model.spec.track
ModelVersion.spec.adapter
ModelVersion.spec.source.http
ModelVersion.spec.source.mlflow
ModelVersion.spec.source.oci
ModelVersion.spec.source.pvc
ModelVersion.spec.source.s3
ModelApproval.spec.attestation
InferenceService.spec.engine.adapters
InferenceService.spec.placement.topology
InferenceService.spec.scaling.metric
InferenceService.spec.scaling.schedule
InferenceService.spec.scaling.target
InferenceService.spec.traffic.sessionAffinity
RolloutPolicy.spec.analysis.baseline
RolloutPolicy.spec.analysis.margins.quality
RolloutPolicy.spec.analysis.metrics[].counter
RolloutPolicy.spec.analysis.metrics[].gauge
RolloutPolicy.spec.analysis.metrics[].histogram
RolloutPolicy.spec.analysis.metrics[].margin
RolloutPolicy.spec.analysis.metrics[].name
RolloutPolicy.spec.analysis.metrics[].provider
RolloutPolicy.spec.analysis.metrics[].ratio
RolloutPolicy.spec.analysis.metrics[].score
RolloutPolicy.spec.analysis.metrics[].threshold
RolloutPolicy.spec.analysis.retain
RolloutPolicy.spec.hooks
RolloutPolicy.spec.loadTest
RolloutPolicy.spec.shadow.compare
RolloutPolicy.spec.traffic.provider
""".split()  # noqa: SIM905
)


@cache
def version_of(kind: type[Resource]) -> dict[str, Any]:
    (version,) = custom_resource_definition(kind)["spec"]["versions"]
    return version  # type: ignore[no-any-return]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema inside *schema* with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


@cache
def all_nodes(kind: type[Resource]) -> list[tuple[str, dict[str, Any]]]:
    return list(nodes(version_of(kind)["schema"]["openAPIV3Schema"], kind.names.kind))


def is_refused(schema: dict[str, Any]) -> bool:
    return any(rule["reason"] == "FieldValueForbidden" for rule in schema.get("x-kubernetes-validations", ()))


@EVERY_KIND
def test_nothing_is_said_that_the_server_would_change_or_refuse(kind: type[Resource]) -> None:
    forbidden = {"default", "nullable", "oneOf", "anyOf", "allOf", "not", "$ref", "title", "uniqueItems"}
    assert [(path, forbidden & set(part)) for path, part in all_nodes(kind) if forbidden & set(part)] == []


@EVERY_KIND
def test_every_list_says_how_it_is_merged(kind: type[Resource]) -> None:
    lists = [(path, part) for path, part in all_nodes(kind) if part.get("type") == "array"]
    assert [path for path, part in lists if "x-kubernetes-list-type" not in part] == []
    for path, part in lists:
        keys = part.get("x-kubernetes-list-map-keys", [])
        assert set(keys) <= set(part["items"].get("required", ())), path


@EVERY_KIND
def test_everything_has_a_largest_size(kind: type[Resource]) -> None:
    assert [path for path, part in all_nodes(kind) if not _is_bounded(part)] == []


def _is_bounded(part: dict[str, Any]) -> bool:
    match part.get("type"):
        case "string":
            return "maxLength" in part or "enum" in part or part.get("format") == "date-time"
        case "array":
            return "maxItems" in part
        case "object":
            return "maxProperties" in part or "additionalProperties" not in part
        case _:
            return True


@EVERY_KIND
def test_every_field_is_explained(kind: type[Resource]) -> None:
    fields = [(path, part) for path, part in all_nodes(kind) if not path.endswith(("[]", "{}"))]
    assert [path for path, part in fields if not part.get("description", "").endswith(".")] == []


@EVERY_KIND
def test_every_optional_field_of_a_spec_says_what_absence_means(kind: type[Resource]) -> None:
    silent = [
        f"{path}.{name}"
        for path, part in all_nodes(kind)
        if path.split(".")[1:2] == ["spec"]
        for name, field in part.get("properties", {}).items()
        if name not in part.get("required", ())
        and "Absent" not in field["description"]
        and "not supported yet" not in field["description"]
    ]
    assert silent == [
        path
        for path in (
            "InferenceService.spec.engine.custom",
            "ModelVersion.spec.source.huggingFace",
            "RolloutPolicy.spec.analysis.margins.quality.maxDrop",
            "RolloutPolicy.spec.analysis.margins.quality.unacceptable",
        )
        if path.startswith(f"{kind.names.kind}.")
    ]


@EVERY_KIND
def test_every_rule_speaks_in_a_sentence(kind: type[Resource]) -> None:
    rules = [
        (path, rule) for path, part in all_nodes(kind) for rule in part.get("x-kubernetes-validations", ())
    ]
    assert [
        (path, rule["message"]) for path, rule in rules if not re.search(r"\w+ \w+ .*; \w+", rule["message"])
    ] == []


@EVERY_KIND
def test_only_refused_blocks_and_reports_are_open(kind: type[Resource]) -> None:
    open_parts = [
        path
        for path, part in all_nodes(kind)
        if part.get("x-kubernetes-preserve-unknown-fields") and ".status." not in path
    ]
    schemas = dict(all_nodes(kind))
    assert [path for path in open_parts if not is_refused(schemas[path.removesuffix("[]")])] == []


@pytest.mark.parametrize("path", sorted(REFUSED))
def test_what_is_not_built_is_refused_in_a_sentence(path: str) -> None:
    part = dict(all_nodes(BY_NAME[path.split(".")[0]]))[path]
    assert is_refused(part)
    (message,) = {rule["message"] for rule in part["x-kubernetes-validations"]}
    assert "supported yet" in message


def test_the_list_of_refused_fields_is_complete() -> None:
    told = [
        path
        for kind in KINDS
        for path, part in all_nodes(kind)
        if "supported yet" in part.get("description", "")
    ]
    built_in_names = "RolloutPolicy.spec.analysis.metrics[].name"  # its text names what works instead
    assert {*told, built_in_names} == REFUSED


@EVERY_KIND
def test_every_column_shows_a_field_that_exists(kind: type[Resource]) -> None:
    paths = {path.removeprefix(kind.names.kind) for path, _ in all_nodes(kind)}
    shown = [re.sub(r"\[\?[^]]*\]", "[]", column.path) for column in kind.columns]
    assert [path for path in (*shown, *kind.selectable) if path not in paths] == []


@EVERY_KIND
def test_a_definition_fits_into_the_annotation_of_client_side_apply(kind: type[Resource]) -> None:
    assert len(to_yaml(custom_resource_definition(kind)).encode()) < 128 * 1024


@EVERY_KIND
def test_every_kind_can_be_found_and_watched_alike(kind: type[Resource]) -> None:
    crd = custom_resource_definition(kind)
    version = version_of(kind)
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert crd["spec"]["names"]["categories"] == ["modelops"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
    assert "required" not in status
    assert status["properties"]["observedGeneration"]["format"] == "int64"
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert version["schema"]["openAPIV3Schema"].get("required", []) == (
        ["spec"] if kind.names.kind != "ModelNode" else []
    )


def test_all_of_a_version_but_its_lifecycle_is_frozen() -> None:
    spec = dict(all_nodes(BY_NAME["ModelVersion"]))["ModelVersion.spec"]
    frozen = {
        rule["fieldPath"][1:] for rule in spec["x-kubernetes-validations"] if "immutable" in rule["message"]
    }
    assert frozen == {name for name, part in spec["properties"].items() if not is_refused(part)} - {
        "lifecycle"
    }


def test_short_names_are_our_own() -> None:
    shorts = [kind.names.short for kind in KINDS]
    assert shorts == ["mdl", "mver", "infsvc", "rpol", "mappr", "mnode"]
    taken = {"isvc", "llmisvc", "br", "om", "mr", "wk", "wks", "pl", "infpool"}
    assert taken.isdisjoint(shorts)
