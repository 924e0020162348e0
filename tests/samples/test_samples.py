"""The files that people apply: of a kind that exists, without a field that does not, and fitting together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelops.api.kinds import KINDS
from modelops.api.meta import refusals
from modelops.api.names import API_VERSION
from modelops.api.policy import RolloutPolicy
from modelops.api.service import InferenceService
from modelops.api.version import ModelVersion

ROOT = Path(__file__).parents[2]
SAMPLES, POLICIES = ROOT / "config" / "samples", ROOT / "config" / "policies"
BY_KIND = {kind.names.kind: kind for kind in KINDS}
Manifest = dict[str, Any]


def _schemas() -> dict[str, Manifest]:
    crds = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    return {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds
    }


def _documents() -> Iterator[tuple[str, Manifest]]:
    for path in sorted([*SAMPLES.rglob("*.yaml"), *POLICIES.rglob("*.yaml")]):
        for obj in yaml.safe_load_all(path.read_text()):
            name = f"{path.relative_to(ROOT)}: {obj['kind']} {obj['metadata']['name']}"
            yield name, obj


DOCUMENTS = list(_documents())
OURS = [pytest.param(obj, id=name) for name, obj in DOCUMENTS if obj["apiVersion"] == API_VERSION]
SCHEMAS = _schemas()


def _of(kind: str) -> list[Manifest]:
    return [obj for _, obj in DOCUMENTS if obj["kind"] == kind]


def _unknown(value: Any, schema: Manifest, path: str) -> Iterator[str]:
    """Yield the path of every field that the server would drop in silence."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, schema["items"], f"{path}[{number}]")
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        if key in known:
            yield from _unknown(item, known[key], f"{path}.{key}")
        elif others is None:
            yield f"{path}.{key}"


def test_the_files_are_found() -> None:
    kinds = {obj["kind"] for _, obj in DOCUMENTS}
    assert {"Namespace", "Model", "ModelVersion", "InferenceService", "RolloutPolicy"} <= kinds


@pytest.mark.parametrize("obj", OURS)
def test_a_sample_is_of_its_kind_and_asks_for_nothing_that_is_refused(obj: Manifest) -> None:
    parsed = BY_KIND[obj["kind"]].parse(obj)
    assert list(refusals(parsed.spec)) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("obj", OURS)
def test_a_sample_has_no_field_that_the_definition_does_not_know(obj: Manifest) -> None:
    spec = SCHEMAS[obj["kind"]]["properties"]["spec"]
    assert list(_unknown(obj["spec"], spec, "spec")) == []
    assert set(obj) == {"apiVersion", "kind", "metadata", "spec"}


def test_an_unknown_field_would_be_found() -> None:
    spec = {"model": {"version": "a", "alais": "b"}, "engine": {"env": [{"name": "A", "valeu": "1"}]}}
    found = list(_unknown(spec, SCHEMAS["InferenceService"]["properties"]["spec"], "spec"))
    assert found == ["spec.model.alais", "spec.engine.env[0].valeu"]


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_ready_policy_is_complete_and_bears_the_name_of_its_file(path: Path) -> None:
    obj = yaml.safe_load(path.read_text())
    assert obj["kind"] == "RolloutPolicy"
    assert obj["metadata"]["name"] == path.stem
    policy = RolloutPolicy.parse(obj).spec.in_force()
    assert policy.steps or policy.switch
    assert policy.window <= policy.max_duration


def test_the_standard_policy_is_every_default_and_the_cautious_one_is_stricter() -> None:
    standard, cautious = (
        RolloutPolicy.parse(yaml.safe_load((POLICIES / f"{name}.yaml").read_text())).spec
        for name in ("standard", "cautious")
    )
    assert standard.to_wire() == {}
    default, strict = standard.in_force(), cautious.in_force()
    assert strict.steps[0] < default.steps[0]
    assert strict.missed_regression < default.missed_regression
    assert strict.latency.unacceptable < default.latency.unacceptable
    assert strict.errors.unacceptable < default.errors.unacceptable
    assert strict.setting(25).waits_for_resume


def test_versions_belong_to_a_sample_model_of_their_namespace() -> None:
    models = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in _of("Model")}
    for obj in _of("ModelVersion"):
        version = ModelVersion.parse(obj)
        assert (version.namespace, version.spec.model_ref) in models, version.name


def test_services_name_sample_versions_and_ready_policies_of_their_namespace() -> None:
    versions = {(obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in _of("ModelVersion")}
    # A policy without a namespace goes where it is applied.
    policies = {(obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in _of("RolloutPolicy")}
    services = [InferenceService.parse(obj) for obj in _of("InferenceService")]
    assert services
    for service in services:
        assert (service.namespace, service.spec.model.version) in versions, service.name
        if service.spec.rollout_policy_ref is not None:
            name = service.spec.rollout_policy_ref.name
            assert {(service.namespace, name), (None, name)} & policies, service.name
