"""Canonical JSON and the hash of a spec."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.artifacts.canonical import NotCanonical, canonical, parse, spec_hash

GOLDEN = (
    '{"actor":{"kind":"User","name":"zoë","source":"modelapproval/9b0d"},"from":"PendingApproval",'
    '"hash":"sha256:8511318708c22ce647eccad2305519abec2f837d832169ccb7bb1b3e0e94d3ae",'
    '"object":{"kind":"ModelVersion","name":"fraud-7","namespace":"team-a"},'
    '"prev":"sha256:77c4fd09f2c3ca0b9bfa5cfe137bfe12e814e90a3022ce8de4e96cfcf10048ef",'
    '"reason":"QuorumReached","seq":1,"time":"2026-01-01T00:00:00Z","to":"Approved","type":"Approved",'
    '"uid":"6f1c1a52-8a0e-4f0a-9a64-3d1b5f0c2e11","v":1}'
).encode()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_the_golden_entry_is_canonical_and_its_hash_holds() -> None:
    entry = parse(GOLDEN)
    assert canonical(entry) == GOLDEN
    wanted = entry.pop("hash")
    assert "sha256:" + hashlib.sha256(canonical(entry)).hexdigest() == wanted
    assert entry["prev"] == "sha256:" + hashlib.sha256(entry["uid"].encode()).hexdigest()


@given(JSON)
def test_parsing_what_was_written_gives_the_value_back(value: Any) -> None:
    assert parse(canonical(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": 1.0}, id="float"),
        pytest.param({"a": float("nan")}, id="not a number"),
        pytest.param({"a": 2**53}, id="integer too large"),
        pytest.param({"a": -(2**53)}, id="integer too small"),
        pytest.param({"é": 1}, id="key outside ASCII"),
        pytest.param({1: 1}, id="key that is no text"),
        pytest.param({"a": "\ud800"}, id="lone surrogate"),
        pytest.param({"a": b"x"}, id="bytes"),
    ],
)
def test_values_outside_the_limits_are_refused(value: Any) -> None:
    with pytest.raises(NotCanonical, match=r"needs .* found"):
        canonical(value)


def test_nesting_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(65):
        deep = [deep]
    with pytest.raises(NotCanonical, match="64 levels"):
        canonical(deep)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"a":1,"a":2}', id="a key twice"),
        pytest.param(b'{"b":1,"a":2}', id="keys out of order"),
        pytest.param(b'{"a": 1}', id="a space"),
        pytest.param(b'{"a":"\\u00e9"}', id="a needless escape"),
        pytest.param(b'{"a":1}\n', id="a newline behind it"),
        pytest.param(b'{"a":1.0}', id="a float"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="endless nesting"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_other_ways_of_writing_are_refused(text: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse(text)


def test_the_lifecycle_and_the_stamp_do_not_change_the_hash_of_a_spec() -> None:
    spec = {"modelRef": "fraud", "version": "7", "source": {"huggingFace": {"repo": "acme/fraud"}}}
    written = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
    assert spec_hash(spec) == "sha256:" + hashlib.sha256(written).hexdigest()
    assert spec_hash({**spec, "lifecycle": "Deprecated", "createdBy": "alice"}) == spec_hash(spec)
    assert spec_hash({**spec, "version": "8"}) != spec_hash(spec)
