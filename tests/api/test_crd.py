"""Types become structural schemas, or the generator says which type cannot."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

import pytest
import yaml
from pydantic import AwareDatetime, Field

from modelops.api.crd import NotStructural, custom_resource_definition, main, structural, to_template, to_yaml
from modelops.api.meta import IntOrText, ListMap, ListSet, Refused, Rule, Spec
from modelops.api.model import Model
from modelops.api.service import InferenceService


def schema(annotation: Any, **namespace: Any) -> Any:
    """Return the schema of one field of that type."""
    part = type(
        "Part", (Spec,), {"__annotations__": {"field": annotation}, "__module__": __name__, **namespace}
    )
    given = part.model_json_schema()
    return structural(given, given.get("$defs", {}), "Part")["properties"]["field"]


class Leaf(Spec):
    """A leaf."""

    rules: ClassVar = (Rule("self.size >= 0", "grow"),)

    size: Annotated[int, Field(ge=0)]
    """How long it is."""


class Branch(Spec):
    """A branch, with more of them."""

    more: "tuple[Branch, ...]" = ()


LEAF_RULE = {"rule": "self.size >= 0", "message": "grow", "reason": "FieldValueInvalid"}
SIZE = {"type": "integer", "format": "int64", "minimum": 0, "description": "How long it is."}


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        pytest.param(
            Annotated[str, Field(max_length=3)] | None, {"type": "string", "maxLength": 3}, id="optional"
        ),
        pytest.param(AwareDatetime, {"type": "string", "format": "date-time"}, id="known format"),
        pytest.param(Path, {"type": "string"}, id="unknown format"),
        pytest.param(Literal["a"], {"type": "string", "enum": ["a"]}, id="constant"),
        pytest.param(
            Annotated[float, Field(gt=0, lt=1)],
            {
                "type": "number",
                "minimum": 0.0,
                "exclusiveMinimum": True,
                "maximum": 1.0,
                "exclusiveMaximum": True,
            },
            id="open interval",
        ),
        pytest.param(
            tuple[bool, ...],
            {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "boolean"}},
            id="a list is atomic",
        ),
        pytest.param(
            Annotated[tuple[int, ...] | None, ListSet()],
            {
                "type": "array",
                "x-kubernetes-list-type": "set",
                "items": {"type": "integer", "format": "int64"},
            },
            id="a set",
        ),
        pytest.param(
            frozenset[bool],
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "boolean"}},
            id="unique items are a set",
        ),
        pytest.param(
            dict[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}, id="a typed map"
        ),
        pytest.param(
            dict[str, Any] | None,
            {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            id="an open map",
        ),
        pytest.param(
            Annotated[int | Literal["Auto"] | None, IntOrText()],
            {"x-kubernetes-int-or-string": True},
            id="number or text",
        ),
        pytest.param(
            Annotated[tuple[Leaf, ...], ListMap(("size",))],
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["size"],
                "items": {
                    "type": "object",
                    "description": "A leaf.",
                    "required": ["size"],
                    "x-kubernetes-validations": [LEAF_RULE],
                    "properties": {"size": SIZE},
                },
            },
            id="a list by key, with the rules of its items",
        ),
    ],
)
def test_a_type_becomes_a_structural_schema(annotation: Any, wanted: dict[str, Any]) -> None:
    assert schema(annotation) == wanted


def test_rules_of_a_field_join_those_of_its_class() -> None:
    found = schema(Annotated[Leaf | None, Rule("self.size < 9", "shrink")])["x-kubernetes-validations"]
    assert [rule["message"] for rule in found] == ["grow", "shrink"]


@pytest.mark.parametrize(
    ("mark", "cel"),
    [
        pytest.param(Refused("not yet"), "false", id="a field that must be absent"),
        pytest.param(Refused("not yet", ("A", "B")), "self in ['A', 'B']", id="some values work"),
        pytest.param(Refused("not yet", (False,)), "self in [false]", id="only off works"),
    ],
)
def test_a_refused_field_has_a_rule(mark: Refused, cel: str) -> None:
    found = schema(Annotated[bool | None, mark])["x-kubernetes-validations"]
    assert found == [{"rule": cel, "message": "not yet", "reason": "FieldValueForbidden"}]


def test_defaults_never_reach_the_schema() -> None:
    assert schema(tuple[bool, ...], field=()) == schema(tuple[bool, ...])


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        pytest.param(int | str, "unites 2 types", id="a union"),
        pytest.param(Union[Leaf, Branch, None], "unites 2 types", id="a union of objects"),  # noqa: UP007
        pytest.param(Branch, "Branch holds itself", id="a recursion"),
        pytest.param(Any, "wanted one type", id="anything"),
        pytest.param(tuple[int, str], "cannot say prefixItems", id="a pair"),
    ],
)
def test_what_a_schema_cannot_say_is_an_error_with_its_path(annotation: Any, why: str) -> None:
    with pytest.raises(NotStructural, match=rf"^Part\.field.*{why}"):
        schema(annotation)


def test_a_template_is_the_plain_file_with_two_switches() -> None:
    crd = custom_resource_definition(Model)
    lines = to_template(crd).splitlines()
    assert lines[0] == "{{- if .Values.crds.enabled }}"
    assert lines[-1] == "{{- end }}"
    at = lines.index("  {{- if .Values.crds.keep }}")
    assert lines[at + 1 : at + 4] == ["  annotations:", "    helm.sh/resource-policy: keep", "  {{- end }}"]
    assert yaml.safe_load("\n".join([*lines[1:at], *lines[at + 4 : -1]])) == crd


def test_braces_in_a_text_are_no_template() -> None:
    crd = {"metadata": {"name": "a"}, "description": "as {{ x }}"}
    assert 'as {{ "{{" }} x }}' in to_template(crd)


def test_equal_types_give_equal_text() -> None:
    crd = custom_resource_definition(InferenceService)
    assert to_yaml(crd) == to_yaml(custom_resource_definition(InferenceService))
    assert yaml.safe_load(to_yaml(crd)) == crd


def test_a_stale_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--out", str(tmp_path / "crds"), "--chart", str(tmp_path / "chart")]
    assert main(folders) == 0
    assert main([*folders, "--check"]) == 0
    (tmp_path / "chart" / "models.yaml").write_text("old")
    (tmp_path / "crds" / "gone.yaml").write_text("of a kind that is no more")
    assert main([*folders, "--check"]) == 1
    errors = capsys.readouterr().err
    assert f"{tmp_path}/chart/models.yaml: differs" in errors
    assert f"{tmp_path}/crds/gone.yaml: differs" in errors
    assert errors.count("\n") == 2
