"""Who may open the gate, and whose approval does not count."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.api.names import UNKNOWN_ENVIRONMENT
from modelops.governance.approvals import Approval, Question, answer
from modelops.governance.countersign import (
    MARGIN,
    GateState,
    Record,
    is_countersigned,
    mac,
    may_countersign,
)
from modelops.governance.gates import ADMISSION, Evidence, first_hold
from modelops.governance.requirements import Requirement, stricter
from modelops.plan import Reason

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
ASK = Question(
    model="chat",
    version="chat-1",
    environment="prod",
    artifact_digest="sha256:aa",
    spec_hash="sha256:bb",
    authors=frozenset({"author"}),
    requirement=Requirement(approvals=1, separation_of_duties=True),
)
YES = Approval(
    name="chat-1-approve",
    approver="approver",
    decision="Approve",
    model="chat",
    version="chat-1",
    artifact_digest="sha256:aa",
    spec_hash="sha256:bb",
    environments=("prod",),
    created_at=NOW - timedelta(hours=1),
    is_trusted=True,
)


@pytest.mark.parametrize(
    ("approval", "code"),
    [
        pytest.param(YES, None, id="approved by a second person"),
        pytest.param(replace(YES, artifact_digest="sha256:cc"), "OtherBytes", id="other bytes"),
        pytest.param(replace(YES, spec_hash="sha256:cc"), "OtherSpec", id="another spec"),
        pytest.param(replace(YES, model="fraud"), "WrongModel", id="another model"),
        pytest.param(replace(YES, environments=("dev",)), "OtherEnvironment", id="another environment"),
        pytest.param(replace(YES, environments=()), "OtherEnvironment", id="no environment means none"),
        pytest.param(replace(YES, expires_at=NOW), "Expired", id="expires this instant"),
        pytest.param(replace(YES, expires_at=NOW + timedelta(seconds=1)), None, id="expires in a second"),
        pytest.param(replace(YES, approver="author"), "OwnVersion", id="by the author"),
        pytest.param(replace(YES, is_trusted=False), "GateNotEnforced", id="made without the gate"),
    ],
)
def test_whose_approval_counts(approval, code):
    found = answer(ASK, (approval,), NOW)
    assert [ignored.reason.code for ignored in found.ignored] == ([code] if code else [])
    assert (found.hold is None) == (code is None)


def test_nothing_may_run_where_the_environment_is_not_known_even_if_none_would_ask_for_approvals():
    nowhere = replace(ASK, environment=UNKNOWN_ENVIRONMENT, requirement=Requirement())
    assert answer(replace(nowhere, environment="prod"), (), NOW).hold is None
    found = answer(nowhere, (), NOW)
    assert found.hold is not None
    assert found.hold.code == "EnvironmentUnknown"


def test_one_person_counts_once():
    ask = replace(ASK, requirement=Requirement(2, separation_of_duties=True))
    again = replace(YES, name="again")
    found = answer(ask, (YES, again), NOW)
    assert found.approvers == ("approver",)
    assert found.hold is not None
    assert found.hold.message == (
        "chat-1: needs 2 approvals for prod, found 1; ask somebody other than author to run "
        "kubectl modelops approve chat-1"
    )


@pytest.mark.parametrize(
    ("decision", "code"),
    [("Revoke", "Revoked"), ("Reject", "Rejected")],
)
def test_one_trusted_word_against_a_version_is_final(decision, code):
    no = replace(YES, name="no", approver="second", decision=decision)
    found = answer(ASK, (YES, no), NOW)
    assert found.hold is not None
    assert found.hold.code == code


def test_an_untrusted_revocation_does_nothing():
    no = replace(YES, name="no", decision="Revoke", is_trusted=False)
    assert answer(ASK, (YES, no), NOW).hold is None


def test_a_quorum_ends_when_too_few_are_left():
    later = replace(YES, name="b", approver="second", expires_at=NOW + timedelta(days=2))
    first = replace(YES, expires_at=NOW + timedelta(days=1))
    ask = replace(ASK, requirement=Requirement(1, separation_of_duties=True))
    assert answer(ask, (first, later), NOW).until == NOW + timedelta(days=2)
    both = replace(ASK, requirement=Requirement(2, separation_of_duties=True))
    assert answer(both, (first, later), NOW).until == NOW + timedelta(days=1)


def test_an_expired_quorum_is_told_apart_from_a_missing_one():
    found = answer(ASK, (replace(YES, expires_at=NOW),), NOW)
    assert found.hold is not None
    assert found.hold.code == "ApprovalExpired"


READY = Evidence(
    service="chat",
    model="chat",
    version="chat-1",
    environment="prod",
    format="GGUF",
    artifact_digest="sha256:aa",
    spec_hash="sha256:bb",
    authors=frozenset({"author"}),
    requirement=Requirement(1, separation_of_duties=True, formats=frozenset({"GGUF"})),
    approvals=(YES,),
)


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        pytest.param(READY, None, id="all is well"),
        pytest.param(replace(READY, unresolved=Reason("Resolving", "x")), "Resolving", id="not pinned"),
        pytest.param(
            replace(READY, unverified=Reason("NotFetched", "x")), "NotFetched", id="bytes not proven"
        ),
        pytest.param(replace(READY, lifecycle="Archived"), "VersionArchived", id="archived"),
        pytest.param(replace(READY, lifecycle="Deprecated"), None, id="deprecated still runs"),
        pytest.param(replace(READY, format="pickle"), "FormatNotAllowed", id="format not allowed"),
        pytest.param(
            replace(READY, format="pickle", requirement=replace(READY.requirement, formats=None)),
            "FormatNotAllowed",
            id="a pickle that nobody allowed by name",
        ),
        pytest.param(
            replace(
                READY,
                format="pickle",
                requirement=replace(READY.requirement, formats=frozenset({"pickle"})),
            ),
            None,
            id="a pickle that is allowed by name",
        ),
        pytest.param(replace(READY, approvals=()), "ApprovalMissing", id="nobody approved"),
        pytest.param(
            replace(READY, approvals=(), unverified=Reason("NotFetched", "x")),
            "ApprovalMissing",
            id="people are asked before the download ends",
        ),
    ],
)
def test_what_closes_the_gate(seen, code):
    hold = first_hold(ADMISSION, seen, NOW)
    assert (hold and hold.code) == code


formats = st.none() | st.frozensets(st.sampled_from(["GGUF", "safetensors", "ONNX"]))
demands = st.builds(Requirement, st.integers(0, 5), st.booleans(), formats)


@given(demands, demands)
def test_the_stricter_demand_holds_whoever_asks_first(one, other):
    both = stricter(one, other)
    assert both == stricter(other, one)
    assert both.approvals >= max(one.approvals, other.approvals)
    for side in (one, other):
        if side.formats is not None:
            assert both.formats is not None
            assert both.formats <= side.formats


KEYS = {"k1": b"key"}
RECORD = Record("uid", "2026-01-05T08:00:00Z", "ab" * 32)


def test_a_countersignature_covers_the_whole_record():
    signature = mac(KEYS["k1"], RECORD)
    assert is_countersigned(KEYS, RECORD, "k1", signature)
    for other in (
        replace(RECORD, uid="x"),
        replace(RECORD, created_at="x"),
        replace(RECORD, spec_sha256="x"),
    ):
        assert not is_countersigned(KEYS, other, "k1", signature)
    assert not is_countersigned(KEYS, RECORD, "k2", signature)
    assert not is_countersigned(KEYS, RECORD, "k1", "")


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        pytest.param(GateState(NOW - timedelta(minutes=1)), None, id="made after the gate stood"),
        pytest.param(GateState(NOW - MARGIN), "GateNotEnforced", id="made within the margin"),
        pytest.param(GateState(), "GateNotProven", id="gate never tested"),
        pytest.param(
            GateState(NOW - timedelta(days=1), Reason("GateNotEnforced", "x")),
            "GateNotEnforced",
            id="gate broken",
        ),
    ],
)
def test_only_records_made_under_the_gate_are_signed(gate, code):
    found = may_countersign(gate, NOW)
    assert (found and found.code) == code
