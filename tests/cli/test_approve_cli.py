"""What an approval says about itself, and how its record is named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from modelops.cli.approve import Wish, name_of, spec_of, still_counts, told
from modelops.cli.refusal import Refused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST, HASH = "sha256:" + "1a" * 32, "sha256:" + "3c" * 32
WISH = Wish("chat-1", "Approve", "evaluated", (), None, NOW)
VERSION = {
    "metadata": {"name": "chat-1"},
    "spec": {"modelRef": "chat"},
    "status": {"artifactDigest": DIGEST, "specHash": HASH, "phase": "PendingApproval"},
}
SPEC = spec_of(VERSION, WISH, ("prod",))


def _name(wish=WISH, spec=SPEC, user="bob", attempt=0):
    return name_of(wish, spec, user, attempt)


def test_the_name_can_be_read():
    assert _name().startswith("chat-1-approve-")
    assert len(_name()) == len("chat-1-approve-") + 8


def test_the_name_stays_for_one_person_on_one_day():
    assert _name() == _name(replace(WISH, now=NOW + timedelta(hours=11), reason="again"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"user": "carol"}, id="another person"),
        pytest.param({"wish": replace(WISH, now=NOW + timedelta(days=1))}, id="another day"),
        pytest.param({"wish": replace(WISH, decision="Reject")}, id="another decision"),
        pytest.param({"wish": replace(WISH, expires_at=NOW + timedelta(days=9))}, id="another end"),
        pytest.param({"spec": SPEC | {"environments": ["dev"]}}, id="another environment"),
        pytest.param({"spec": SPEC | {"artifactDigest": HASH}}, id="other bytes"),
        pytest.param({"attempt": 1}, id="a name that is taken"),
    ],
)
def test_another_decision_has_another_name(other):
    assert _name(**other) != _name()


def test_it_is_about_the_bytes_in_status():
    assert SPEC == {
        "modelRef": "chat",
        "versionRef": "chat-1",
        "decision": "Approve",
        "artifactDigest": DIGEST,
        "specHash": HASH,
        "environments": ["prod"],
        "reason": "evaluated",
    }


@pytest.mark.parametrize("missing", ["artifactDigest", "specHash"])
def test_a_version_that_is_not_pinned_cannot_be_decided_about(missing):
    status = {key: value for key, value in VERSION["status"].items() if key != missing}
    with pytest.raises(Refused, match=r"^chat-1: needs its bytes pinned .* found phase PendingApproval; see"):
        spec_of(VERSION | {"status": status}, WISH, ("prod",))


BY_BOB = {"spec": SPEC | {"approver": {"username": "bob"}}}


def _until(instant):
    return {"spec": BY_BOB["spec"] | {"expiresAt": instant}}


@pytest.mark.parametrize(
    ("known", "user", "counts"),
    [
        pytest.param(BY_BOB, "bob", True, id="our own record of today"),
        pytest.param(BY_BOB, "carol", False, id="somebody else's"),
        pytest.param({"spec": SPEC}, "", False, id="nobody's, and we do not know who we are"),
        pytest.param(BY_BOB | {"status": {"trust": "Untrusted"}}, "bob", False, id="one that does not count"),
        pytest.param(
            _until("2026-03-01T12:00:00Z"),
            "bob",
            False,
            id="one that ended",
        ),
        pytest.param(
            _until("2026-03-01T12:00:01Z"),
            "bob",
            True,
            id="one that goes on",
        ),
    ],
)
def test_a_record_is_made_again_only_when_ours_does_not_count(known, user, counts):
    assert still_counts(known, user, NOW) is counts


def test_the_answer_says_who_decided_what_for_what_until_when():
    stored = {"metadata": {"name": "chat-1-approve-0a1b2c3d"}, "spec": BY_BOB["spec"]}
    assert told(stored) == (f"bob approved chat-1 ({DIGEST}) for prod, recorded as chat-1-approve-0a1b2c3d")
    stored["spec"] = stored["spec"] | {"expiresAt": "2026-06-01T00:00:00Z", "environments": ["dev", "prod"]}
    assert told(stored) == (
        f"bob approved chat-1 ({DIGEST}) for dev, prod until 2026-06-01T00:00:00Z, "
        "recorded as chat-1-approve-0a1b2c3d"
    )
