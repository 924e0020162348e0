"""The documents at the root: what they name exists, and what they claim can be looked up."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "modelops"
DOCS = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
}
WRITTEN = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for folder in ("charts", "config", "crds", "e2e", "operator", "tests")
            for suffix in ("md", "yaml", "txt", "json")
            for path in (ROOT / folder).rglob(f"*.{suffix}")
        ),
    ]
)
CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)
ELSEWHERE = re.compile(
    r"\b(?:pypi|pythonhosted|golang|debian|npmjs|crates)\.(?:org|io|com)\b|\b(?:ghcr|docker|quay)\.io\b"
)
HOME = re.compile(r"""(?:^|[\s"'`(=])/(?:home/\w|root\b|Users/\w)""")


def _paths(text: str) -> Iterator[str]:
    """Yield every path in code style, with the test that it may name."""
    for token in SPAN.findall(CODE.sub("", text)):
        first = token.partition("/")[0]
        if "/" not in token or not re.fullmatch(r"[\w./:-]+", token) or not first or "." in first.strip("."):
            continue  # a sentence, an address inside a pod, or the name of a label
        yield token


def _exists(token: str) -> bool:
    path, _, test = token.partition("::")
    found = next((at for at in (ROOT / path, PACKAGE / path) if at.exists()), None)
    if found is None or not test:
        return found is not None
    return re.search(rf"^def {re.escape(test)}\(", found.read_text(), re.MULTILINE) is not None


@pytest.mark.parametrize("name", DOCS)
def test_every_path_that_a_document_names_exists(name: str) -> None:
    assert [token for token in _paths(DOCS[name]) if not _exists(token)] == []


def test_a_path_that_is_gone_would_be_found() -> None:
    text = "`serving/gone.py`, `tests/api/test_crd.py::test_gone`, `/wait`, `a.dev/b`, `serving/plan.py`, a/b"
    assert [token for token in _paths(text) if not _exists(token)] == [
        "serving/gone.py",
        "tests/api/test_crd.py::test_gone",
    ]


def test_the_architecture_has_a_place_for_every_folder_of_the_package() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    named = {
        token.split("/")[2]
        for token in _paths(DOCS["ARCHITECTURE.md"])
        if token.startswith("operator/modelops/")
    }
    assert folders <= named


@pytest.mark.parametrize("name", DOCS)
def test_every_make_target_that_a_document_names_exists(name: str) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    code = "\n".join([*CODE.findall(DOCS[name]), *SPAN.findall(CODE.sub("", DOCS[name]))])
    asked = set(re.findall(r"(?:^|\s)make ([a-z0-9-]+)", code))
    assert asked - targets == set()
    assert targets >= {"demo", "demo-down", "test", "verify"}


@pytest.mark.parametrize("name", DOCS)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    local = [link for link in LINK.findall(CODE.sub("", DOCS[name])) if "://" not in link]
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def test_no_text_names_a_home_folder() -> None:
    assert len(WRITTEN) > 30
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in WRITTEN
        for line in path.read_text().splitlines()
        if HOME.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=lambda path: path.name)
def test_no_document_names_the_host_of_a_registry(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if ELSEWHERE.search(line)] == []


def test_what_must_not_stand_in_a_document_would_be_found() -> None:
    assert HOME.search("see /home/somebody/x")
    assert HOME.search("cd `/Users/somebody`")
    assert not HOME.search("the root, a/root and /rooted")
    assert ELSEWHERE.search("from ghcr" + ".io/somebody/image")


def test_the_changelog_says_what_is_unreleased() -> None:
    assert "\n## Unreleased\n" in DOCS["CHANGELOG.md"]


def test_the_picture_in_the_readme_is_what_the_plug_in_draws() -> None:
    golden = ROOT / "tests" / "cli" / "golden"
    assert (golden / "rollout-in-the-middle" / "80.txt").read_text().strip() in DOCS["README.md"]
    assert (golden / "rollout-goes-back" / "80.txt").read_text().strip().splitlines()[-1] in DOCS["README.md"]


@pytest.mark.parametrize(
    ("product", "part", "module"),
    [
        ("Kubernetes", "kubernetes", "k8s.io/kubernetes"),
        ("Envoy Gateway", "envoy-gateway", "github.com/envoyproxy/gateway"),
        ("Helm", "helm", "helm.sh/helm/v4"),
        ("Prometheus", "prometheus", "github.com/prometheus/prometheus"),
    ],
)
def test_the_versions_that_were_run_are_those_of_the_locks(product: str, part: str, module: str) -> None:
    lock = (ROOT / "e2e" / "cluster" / "parts" / part / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", lock, re.MULTILINE)
    assert found is not None
    version = found[1]
    if part == "prometheus":  # the module v0.315.0 is the release 3.15.0
        minor = version.split(".")[1]
        version = f"{minor[0]}.{int(minor[1:])}.{version.split('.')[2]}"
    assert f"{product} {version}" in DOCS["README.md"]


def _refused(schema: dict[str, Any], name: str = "") -> Iterator[str]:
    """Yield the name of every field that is refused whenever it is set."""
    if any(
        rule["rule"] in ("false", "self in [false]") for rule in schema.get("x-kubernetes-validations", ())
    ):
        yield name
    for key, part in schema.get("properties", {}).items():
        yield from _refused(part, key)
    if isinstance(schema.get("items"), dict):
        yield from _refused(schema["items"], name)


def test_the_readme_lists_every_field_that_is_refused_and_no_other() -> None:
    section = DOCS["README.md"].partition("## Not built yet\n")[2].partition("\n## ")[0]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    listed = set(SPAN.findall(rows)) - {"maxReplicas", "minReplicas"}
    refused: set[str] = set()
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        version = yaml.safe_load(path.read_text())["spec"]["versions"][0]
        refused |= set(_refused(version["schema"]["openAPIV3Schema"]["properties"].get("spec", {})))
    assert listed == refused
