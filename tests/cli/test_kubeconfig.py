"""Which namespace and which identity a kubeconfig means."""

import pytest

from modelops.cli.kubeconfig import Entry, path_of, read
from modelops.cli.refusal import Refused

ONE = """
current-context: a
contexts:
- {name: a, context: {cluster: c, user: u, namespace: team}}
- {name: bare, context: {cluster: c}}
users:
- {name: u, user: {as: alice, as-groups: [authors, all]}}
"""
TWO = """
current-context: b
contexts:
- {name: a, context: {cluster: c, user: u, namespace: shadowed}}
- {name: b, context: {cluster: c, user: v, namespace: other}}
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "one").write_text(ONE)
    (tmp_path / "two").write_text(TWO)
    return f"{tmp_path}/one:{tmp_path}/gone:{tmp_path}/two"


@pytest.mark.parametrize(
    ("context", "entry"),
    [
        pytest.param(None, Entry("a", "team", "alice", ("authors", "all")), id="the first file wins"),
        pytest.param("b", Entry("b", "other"), id="a context of a later file"),
        pytest.param("bare", Entry("bare", "default"), id="no namespace is default"),
    ],
)
def test_a_context_names_namespace_and_identity(files, context, entry):
    assert read(files, context) == entry


def test_an_unknown_context_is_refused_with_those_that_exist(files):
    with pytest.raises(Refused, match=r"needs the context nope, found a, b, bare; name one with --context$"):
        read(files, "nope")


def test_a_file_without_a_current_context_is_refused(tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(Refused, match=r"needs a current context, found none; name one with --context$"):
        read(str(tmp_path / "empty"), None)


def test_a_file_that_is_no_yaml_is_refused_on_one_line(tmp_path):
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(Refused, match=r"^kubeconfig .*: needs YAML that can be read, found .*; correct it$"):
        read(str(tmp_path / "bad"), None)


def test_the_flag_comes_before_the_environment(files):
    assert path_of(files, {"KUBECONFIG": "/nonexistent"}) == files
    assert path_of(None, {"KUBECONFIG": files}) == files
    with pytest.raises(Refused, match="needs a file, found none"):
        path_of("/nonexistent", {"KUBECONFIG": files})
