"""Names are made in one place, are valid, and never meet."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.api import names
from modelops.api.version import ModelVersion

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
OBJECT_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param(
            names.revision_name("chat", "0a1b2c3d"), "chat-0a1b2c3d", id="a revision is service and hash"
        ),
        pytest.param(
            names.store_folder(DIGEST), "sha256-" + DIGEST[7:], id="a store folder is the whole digest"
        ),
        pytest.param(
            names.claim_name(DIGEST),
            "model-0123456789abcdef0123456789abcdef",
            id="a claim is half the digest",
        ),
        pytest.param(
            names.resolve_job_name("fraud-7", DIGEST),
            "resolve-fraud-7-01234567",
            id="a Job is version and spec",
        ),
    ],
)
def test_a_name_is_readable(name: str, wanted: str) -> None:
    assert name == wanted


@given(version=OBJECT_NAMES)
def test_every_child_name_is_a_dns_label(version: str) -> None:
    for name in (
        names.revision_name(version, "0a1b2c3d"),
        names.resolve_job_name(version, DIGEST),
        names.volume_name(version, DIGEST),
        names.child_name(version, "meter"),
    ):
        assert LABEL.fullmatch(name), name


@given(first=OBJECT_NAMES, second=OBJECT_NAMES)
def test_two_versions_never_share_a_job(first: str, second: str) -> None:
    same = names.resolve_job_name(first, DIGEST) == names.resolve_job_name(second, DIGEST)
    assert same == (first == second)


def test_a_dot_and_a_dash_do_not_meet() -> None:
    assert names.child_name("a.b") != names.child_name("a-b")


def test_volumes_differ_by_namespace_and_by_digest() -> None:
    pairs = [("a", DIGEST), ("b", DIGEST), ("a", OTHER)]
    assert len({names.volume_name(*pair) for pair in pairs}) == len(pairs)


def test_a_digest_fits_into_a_label_value() -> None:
    assert names.digest_label(DIGEST) == DIGEST[7 : 7 + 63]


@pytest.mark.parametrize(
    "digest",
    [
        pytest.param("sha256:abc", id="too short"),
        pytest.param("sha256:" + "../" * 21 + "a", id="a path"),
        pytest.param("sha256:" + "A" * 64, id="capital letters"),
    ],
)
def test_what_is_no_digest_becomes_no_folder(digest: str) -> None:
    with pytest.raises(ValueError, match="wanted sha256"):
        names.store_folder(digest)


def test_a_child_is_owned_by_its_object() -> None:
    version = ModelVersion.parse(
        {
            "metadata": {"name": "fraud-7", "namespace": "team-a", "uid": "u1"},
            "spec": {"modelRef": "fraud", "version": "7", "source": {"huggingFace": {"repo": "acme/fraud"}}},
        }
    )
    assert names.owner_reference(version) == {
        "apiVersion": "modelops.dev/v1alpha1",
        "kind": "ModelVersion",
        "name": "fraud-7",
        "uid": "u1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
