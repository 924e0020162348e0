"""The audit chain: the published example, and that nothing in it can be changed."""

import copy

import pytest

from modelops.artifacts.canonical import NotCanonical, canonical
from modelops.governance.audit import KEEP, MOST_BYTES, appended, broken_at, genesis, sealed

UID = "6f1c1a52-8a0e-4f0a-9a64-3d1b5f0c2e11"
EXAMPLE = {
    "actor": {"kind": "User", "name": "zoë", "source": "modelapproval/9b0d"},
    "from": "PendingApproval",
    "object": {"kind": "ModelVersion", "name": "fraud-7", "namespace": "team-a"},
    "reason": "QuorumReached",
    "time": "2026-01-01T00:00:00Z",
    "to": "Approved",
    "type": "Approved",
}
"""Research note on governance, 4.2."""


def entry(number: int, reason: str = "goes on") -> dict[str, str]:
    return {"time": "2026-01-01T00:00:00Z", "type": "WeightChanged", "reason": f"{reason} {number}"}


def test_the_published_entry_has_the_published_hashes() -> None:
    assert genesis(UID) == "sha256:77c4fd09f2c3ca0b9bfa5cfe137bfe12e814e90a3022ce8de4e96cfcf10048ef"
    (whole,) = appended({}, UID, [EXAMPLE])["history"]
    assert whole["hash"] == "sha256:8511318708c22ce647eccad2305519abec2f837d832169ccb7bb1b3e0e94d3ae"
    assert (whole["seq"], whole["prev"], whole["v"], whole["uid"]) == (1, genesis(UID), 1, UID)


def test_entries_follow_each_other_and_the_head_is_the_last() -> None:
    status = appended({}, UID, [entry(n) for n in range(3)])
    status = appended(status, UID, [entry(3)])
    assert [e["seq"] for e in status["history"]] == [1, 2, 3, 4]
    assert status["audit"] == {"seq": 4, "head": status["history"][-1]["hash"]}
    assert broken_at(status["history"], status["audit"]) is None


def test_without_an_entry_nothing_changes() -> None:
    status = appended({}, UID, [entry(1)])
    assert appended(status, UID, ()) == status
    assert appended({}, UID, ()) == {}


def test_the_last_entries_are_kept_and_the_chain_goes_on() -> None:
    status: dict = {}
    for number in range(50):
        status = appended(status, UID, [entry(number)])
    assert [e["seq"] for e in status["history"]] == list(range(31, 51))
    assert len(status["history"]) == KEEP
    assert broken_at(status["history"], status["audit"]) is None


def test_long_entries_push_older_ones_out_sooner() -> None:
    status: dict = {}
    for number in range(30):
        status = appended(status, UID, [entry(number, "x" * 1000)])
    assert sum(len(canonical(e)) for e in status["history"]) <= MOST_BYTES
    assert 10 <= len(status["history"]) < KEEP
    assert broken_at(status["history"], status["audit"]) is None


def test_a_lost_history_goes_on_from_the_head() -> None:
    status = appended({}, UID, [entry(n) for n in range(3)])
    after = appended({"audit": status["audit"]}, UID, [entry(3)])
    assert (after["history"][0]["seq"], after["history"][0]["prev"]) == (4, status["audit"]["head"])


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        pytest.param(lambda h: h[2].update(reason="another"), 3, id="another reason"),
        pytest.param(lambda h: h[2].update(sealed({**h[2], "reason": "another"})), 4, id="sealed anew"),
        pytest.param(lambda h: h.pop(2), 4, id="one left out"),
        pytest.param(lambda h: h.insert(2, dict(h[1])), 2, id="one twice"),
        pytest.param(lambda h: h.reverse(), 4, id="another order"),
        pytest.param(lambda h: h.pop(), 0, id="the end cut off"),
    ],
)
def test_every_change_is_found(change, seq: int) -> None:
    status = copy.deepcopy(appended({}, UID, [entry(n) for n in range(5)]))
    change(status["history"])
    assert broken_at(status["history"], status["audit"]) == seq


def test_a_decimal_has_no_one_form_and_is_refused() -> None:
    with pytest.raises(NotCanonical):
        appended({}, UID, [{**EXAMPLE, "weight": 0.5}])
