"""What a node should have, and when it reports."""

from dataclasses import replace
from typing import Any

import pytest

from modelops.api import names
from modelops.delivery.cache import Disk
from modelops.delivery.report import Artifact, is_due, manifest
from modelops.delivery.wants import Pod, Version, pod_of, version_of, wants

DIGEST = "sha256:" + "ab" * 32
VERSION = Version("team", "chat-1", DIGEST, "c" * 40, {}, None, frozenset())
POD = Pod("team", "n1", "chat-1", names.digest_label(DIGEST))


@pytest.mark.parametrize(
    ("version", "pods", "is_wanted"),
    [
        pytest.param(VERSION, [], False, id="nobody asks"),
        pytest.param(replace(VERSION, nodes=frozenset({"n1"})), [], True, id="the operator chose this node"),
        pytest.param(
            replace(VERSION, nodes=frozenset({"n2"})), [], False, id="the operator chose another node"
        ),
        pytest.param(VERSION, [POD], True, id="a pod landed here"),
        pytest.param(VERSION, [replace(POD, node="n2")], False, id="a pod landed elsewhere"),
        pytest.param(VERSION, [replace(POD, namespace="other")], False, id="a pod of another namespace"),
        pytest.param(VERSION, [replace(POD, digest_label="0" * 63)], False, id="a pod for other bytes"),
    ],
)
def test_what_a_node_should_have(version: Version, pods: list[Pod], is_wanted: bool) -> None:
    assert (DIGEST in wants("n1", [version], pods)) == is_wanted


def test_the_version_that_a_pod_waits_for_is_tried_first() -> None:
    other = replace(VERSION, namespace="a", nodes=frozenset({"n1"}))
    assert wants("n1", [other, VERSION], [POD]) == {DIGEST: (VERSION, other)}


def obj(**status: Any) -> dict[str, Any]:
    spec = {"source": {"huggingFace": {"repo": "a/b"}}, "authSecretRef": {"name": "hub"}}
    return {"metadata": {"namespace": "team", "name": "chat-1"}, "spec": spec, "status": status}


def test_a_version_counts_once_it_is_pinned_to_bytes() -> None:
    assert version_of(obj()) is None
    assert version_of(obj(artifactDigest="sha256:../../etc", resolved={"revision": "c"})) is None
    nodes = [{"name": "n1", "phase": "Wanted"}]
    pinned = version_of(obj(artifactDigest=DIGEST, resolved={"revision": "c" * 40}, cache={"nodes": nodes}))
    assert pinned == Version(
        "team", "chat-1", DIGEST, "c" * 40, {"huggingFace": {"repo": "a/b"}}, "hub", frozenset({"n1"})
    )


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_needs_nothing(phase: str) -> None:
    labels = {names.VERSION_LABEL: "chat-1", names.DIGEST: names.digest_label(DIGEST)}
    pod = {"metadata": {"namespace": "team", "name": "p", "labels": labels}, "spec": {"nodeName": "n1"}}
    assert pod_of({**pod, "status": {"phase": "Pending"}}) == POD
    assert pod_of({**pod, "status": {"phase": phase}}) is None
    assert pod_of({**pod, "spec": {}}) is None
    assert pod_of({**pod, "metadata": {"namespace": "team", "name": "p"}}) is None


FETCHING = Artifact(DIGEST, "team", "chat-1", "Fetching", 100, 1000)


@pytest.mark.parametrize(
    ("before", "now", "seconds", "due"),
    [
        pytest.param(None, {}, 0, True, id="the first report"),
        pytest.param({}, {}, 1e9, False, id="nothing changed"),
        pytest.param({}, {DIGEST: FETCHING}, 0, True, id="an artifact more"),
        pytest.param({DIGEST: FETCHING}, {}, 0, True, id="an artifact less"),
        pytest.param({DIGEST: FETCHING}, {DIGEST: replace(FETCHING, phase="Ready")}, 0, True, id="a phase"),
        pytest.param({DIGEST: FETCHING}, {DIGEST: replace(FETCHING, message="x")}, 0, True, id="a message"),
        pytest.param(
            {DIGEST: FETCHING}, {DIGEST: replace(FETCHING, bytes=149)}, 4, False, id="little progress"
        ),
        pytest.param({DIGEST: FETCHING}, {DIGEST: replace(FETCHING, bytes=150)}, 0, True, id="5 % more"),
        pytest.param({DIGEST: FETCHING}, {DIGEST: replace(FETCHING, bytes=101)}, 5, True, id="5 s later"),
    ],
)
def test_when_a_report_is_due(before: Any, now: Any, seconds: float, due: bool) -> None:
    assert is_due(before, now, seconds=seconds) == due


def test_a_report_is_bounded_and_shows_what_is_moving_first() -> None:
    rows = [Artifact(f"sha256:{number:064x}", "t", "v", "Ready", 1, 1) for number in range(600)]
    status = manifest("n1", [*rows, FETCHING], Disk(10, 5), "2026-01-01T00:00:00Z")["status"]
    assert len(status["cache"]) == 500
    assert status["cache"][0] == {
        "digest": DIGEST, "namespace": "team", "version": "chat-1", "phase": "Fetching", "bytes": 100,
        "totalBytes": 1000,
    }  # fmt: skip
    assert status["disk"] == {"totalBytes": 10, "freeBytes": 5, "storeBytes": 700}
