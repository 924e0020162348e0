"""The last words of a resolve Job are untrusted: what they may say, and what is no answer."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelops.api.version import Resolved as Status
from modelops.plan import Reason
from modelops.registry.resolution import LONGEST_MESSAGE_BYTES, Resolved, job, read
from tests.serving.cluster import FACTS, last_words
from tests.serving.restricted import refusals
from tests.serving.schema import complaints


def test_facts_are_taken_as_they_are():
    said = read(last_words())
    assert said == Resolved("5f3c" * 10, "sha256:" + "1a" * 32, 3, 669_312_000, FACTS)


def test_a_refusal_is_told():
    reason = {"code": "SourceForbidden", "message": "acme/chat: needs a token"}
    assert read(last_words(verdict="Refused", reason=reason)) == Reason(**reason)


def test_a_format_that_nobody_knows_is_another_one():
    said = read(last_words(facts={**FACTS, "format": "PMML"}))
    assert isinstance(said, Resolved)
    assert said.facts["format"] == "Other"


def test_facts_that_status_has_no_field_for_are_left_out():
    said = read(last_words(facts={**FACTS, "colour": "blue"}))
    assert isinstance(said, Resolved)
    assert "colour" not in said.facts


def refused(**reason) -> str:
    return last_words(verdict="Refused", reason={"code": "Bad", "message": "no", **reason})


def resolved(**facts) -> str:
    return last_words(facts={**FACTS, **facts})


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="nothing"),
        pytest.param("Traceback (most recent call last):", id="no JSON"),
        pytest.param(last_words()[:-20], id="cut"),
        pytest.param("[" * 4000, id="brackets without end"),
        pytest.param(last_words(padding="x" * LONGEST_MESSAGE_BYTES), id="longer than a termination message"),
        pytest.param("[]", id="a list"),
        pytest.param(last_words(v=2), id="another version"),
        pytest.param(last_words(verdict="Approved"), id="another verdict"),
        pytest.param(json.dumps({"v": 1, "verdict": "Resolved"}), id="no digest"),
        pytest.param(last_words(artifactDigest="1a" * 32), id="a digest without its algorithm"),
        pytest.param(last_words(artifactDigest="sha256:" + "1A" * 32), id="a digest in capital letters"),
        pytest.param(last_words(artifactDigest="sha256:../../etc"), id="a digest that is a path"),
        pytest.param(last_words(revision="main; rm -rf /"), id="a commit with spaces"),
        pytest.param(last_words(revision=""), id="no commit"),
        pytest.param(last_words(files=True), id="a truth as a number"),
        pytest.param(last_words(files="3"), id="a text as a number"),
        pytest.param(last_words(bytes=-1), id="a negative number"),
        pytest.param(last_words().replace("669312000", "1" * 40), id="a number that no server stores"),
        pytest.param(last_words().replace("669312000", "1.5"), id="half a byte"),
        pytest.param(last_words(facts=[]), id="facts as a list"),
        pytest.param(resolved(layers="22; drop"), id="a fact of another type"),
        pytest.param(resolved(layers=-1), id="a negative fact"),
        pytest.param(resolved(license="x" * 300), id="a fact longer than the status takes"),
        pytest.param(resolved(architecture="llama\nReady: True"), id="a fact of two lines"),
        pytest.param(last_words().replace('"llama"', '"\\ud800"'), id="half a letter"),
        pytest.param(resolved(provenance={"license": "a\u202eb"}), id="a letter that turns the text round"),
        pytest.param(refused(code="not a code!"), id="a refusal whose code is none"),
        pytest.param(refused(code="x" * 64), id="a refusal with an endless code"),
        pytest.param(refused(message="a\nb"), id="a refusal of two lines"),
        pytest.param(refused(message="x" * 1025), id="a refusal without end"),
        pytest.param(refused(message=""), id="a refusal without a word"),
    ],
)
def test_what_is_no_answer(message):
    assert read(message) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["v", "verdict", "revision", "artifactDigest", "files", "bytes", "facts", "reason"])
NAMES = st.sampled_from([field.alias or name for name, field in Status.model_fields.items()])


@settings(deadline=None)  # the first look builds the types
@example({}, {"provenance": None})
@given(st.dictionaries(FIELDS, JSON, max_size=3), st.dictionaries(NAMES, JSON, max_size=3))
def test_whatever_is_said_the_server_takes_the_status(fields, facts):
    said = {**json.loads(last_words()), "facts": {**FACTS, **facts}, **fields}
    answer = read(json.dumps(said))
    if isinstance(answer, Resolved):
        told = {**answer.facts, "revision": answer.revision, "files": answer.files, "bytes": answer.bytes}
        assert complaints("ModelVersion", "status", {"resolved": told}) == []
    if isinstance(answer, Reason):
        assert answer.code.isalnum()


@settings(deadline=None)
@given(st.text())
def test_no_text_breaks_the_reader(message):
    read(message)


def made(secret: str | None, **other) -> dict:
    manifest = job(
        namespace="quickstart",
        name="chat-1",
        uid="u-1",
        spec_hash="sha256:" + "ab" * 32,
        source={"huggingFace": {"repo": "acme/chat"}},
        secret=secret,
        image="registry.example.com/modelops:1",
        pull_policy="IfNotPresent",
        **other,
    )
    return manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("secret", [None, "hub-token"])
def test_the_job_is_restricted_and_has_no_api_token(secret):
    pod = made(secret)
    assert refusals(pod) == []
    assert pod["automountServiceAccountToken"] is False


def test_the_job_may_reach_what_the_administrator_listed_and_pull_its_image():
    pod = made(None, allowed_hosts=("hub.b", "hub.a"), pull_secrets=("registry",))
    assert {"name": "MODELOPS_ALLOWED_HOSTS", "value": "hub.a,hub.b"} in pod["containers"][0]["env"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert "imagePullSecrets" not in made(None)


def test_the_token_is_a_file_that_only_its_key_is_read_of():
    pod = made("hub-token")
    (volume,) = (v for v in pod["volumes"] if "secret" in v)
    assert volume["secret"]["items"] == [{"key": "token", "path": "token"}]
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert env["HF_TOKEN_PATH"] == "/var/run/modelops/token/token"
    assert "HF_TOKEN_PATH" not in {item["name"] for item in made(None)["containers"][0]["env"]}
