"""Which approvals count for a version's very bytes, and which do not, with the reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelops.api.names import UNKNOWN_ENVIRONMENT
from modelops.governance.requirements import Requirement
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class Approval:
    """One ModelApproval as the API server stored it."""

    name: str
    approver: str
    decision: str
    """Approve, Reject or Revoke."""
    model: str
    version: str
    artifact_digest: str
    spec_hash: str
    environments: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    """First instant at which it no longer counts; None: never."""
    is_trusted: bool = False
    """Whether it was made while the approval gate was proven to be in force."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this version run in this environment?"""

    model: str
    version: str
    environment: str
    artifact_digest: str
    spec_hash: str
    authors: frozenset[str]
    """Who made the version: its creator as the API server recorded it, and the author it names."""
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class Ignored:
    """An approval that does not count, and why."""

    approval: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What the approvals say to one question."""

    approvers: tuple[str, ...]
    """Who counts, sorted."""
    ignored: tuple[Ignored, ...]
    hold: Reason | None
    """None: the version may run."""
    until: datetime | None = None
    """When the quorum falls apart by expiry; None: it does not."""


def answer(question: Question, approvals: Iterable[Approval], now: datetime) -> Answer:
    """Return who approved these very bytes for this environment, and what is missing.

    A trusted Revoke or Reject of the version is final.  An approval counts up to, not including, its
    ``expires_at``.  One person counts once, however often they approve.
    """
    ours = sorted(
        (a for a in approvals if a.version == question.version),
        key=lambda a: (a.created_at, a.name),
    )
    refusal = _refusal(question, ours)
    counted: dict[str, Approval] = {}
    ignored: list[Ignored] = []
    for approval in ours:
        if approval.decision != "Approve":
            continue
        reason = _ignores(question, approval, now)
        if reason is not None:
            ignored.append(Ignored(approval.name, reason))
            continue
        best = counted.get(approval.approver)
        if best is None or _later(approval.expires_at, best.expires_at):
            counted[approval.approver] = approval
    approvers = tuple(sorted(counted))
    nowhere = unknown(question.version, question.environment)
    hold = refusal or nowhere or _missing(question, approvers, ignored)
    until = None if hold else _until(question.requirement.approvals, list(counted.values()))
    return Answer(approvers, tuple(ignored), hold, until)


def unknown(version: str, environment: str) -> Reason | None:
    """Hold while nobody knows where the version is to run: the floor there may ask for more than none."""
    if environment != UNKNOWN_ENVIRONMENT:
        return None
    return Reason(
        "EnvironmentUnknown",
        f"{version}: needs the environment of its namespace, found its Namespace not read by the operator; "
        "wait, or let the operator get it, as the chart's roles do",
    )


def _refusal(question: Question, approvals: Sequence[Approval]) -> Reason | None:
    for approval in approvals:
        if not approval.is_trusted or approval.model != question.model:
            continue
        if approval.decision == "Revoke":
            return Reason(
                "Revoked",
                f"{question.version}: {approval.approver} revoked it ({approval.name}); use another version",
            )
        if approval.decision == "Reject" and question.environment in approval.environments:
            return Reason(
                "Rejected",
                f"{question.version}: {approval.approver} rejected it for {question.environment} "
                f"({approval.name}); create a new version",
            )
    return None


def _ignores(question: Question, approval: Approval, now: datetime) -> Reason | None:
    """Return why this approval does not count; None: it counts."""
    what = f"{approval.name} by {approval.approver} for {question.version}"
    if not approval.is_trusted:
        return Reason(
            "GateNotEnforced",
            f"{what}: needs an approval made while the approval gate was in force, found none; "
            "create it again once the gate is green",
        )
    if approval.model != question.model:
        return Reason(
            "WrongModel",
            f"{what}: needs modelRef {question.model}, found {approval.model}; approve again",
        )
    if approval.artifact_digest != question.artifact_digest:
        return Reason(
            "OtherBytes",
            f"{what}: needs digest {question.artifact_digest}, found {approval.artifact_digest}; "
            "approve the bytes that are there",
        )
    if approval.spec_hash != question.spec_hash:
        return Reason(
            "OtherSpec",
            f"{what}: needs spec hash {question.spec_hash}, found {approval.spec_hash}; approve again",
        )
    if question.environment not in approval.environments:
        return Reason(
            "OtherEnvironment",
            f"{what}: needs environment {question.environment}, "
            f"found {', '.join(approval.environments) or 'none'}; approve for it too",
        )
    if approval.expires_at is not None and now >= approval.expires_at:
        return Reason(
            "Expired",
            f"{what}: expired at {approval.expires_at:%Y-%m-%dT%H:%M:%SZ}; approve again",
        )
    if question.requirement.separation_of_duties and approval.approver in question.authors:
        return Reason(
            "OwnVersion",
            f"{what}: needs somebody other than the author, found {approval.approver}; ask a second person",
        )
    return None


def _later(one: datetime | None, other: datetime | None) -> bool:
    return other is not None and (one is None or one > other)


def _missing(question: Question, approvers: Sequence[str], ignored: Sequence[Ignored]) -> Reason | None:
    needed = question.requirement.approvals
    if len(approvers) >= needed:
        return None
    expired = [i for i in ignored if i.reason.code == "Expired"]
    code = "ApprovalExpired" if expired and len(approvers) + len(expired) >= needed else "ApprovalMissing"
    who = (
        f"somebody other than {' and '.join(sorted(question.authors))}"
        if question.requirement.separation_of_duties and question.authors
        else "an approver"
    )
    found = f"found {len(approvers)}" + (f" and {len(ignored)} that do not count" if ignored else "")
    return Reason(
        code,
        f"{question.version}: needs {needed} approval{'s' if needed != 1 else ''} for "
        f"{question.environment}, {found}; ask {who} to run "
        f"kubectl modelops approve {question.version}",
    )


def _until(needed: int, counted: Sequence[Approval]) -> datetime | None:
    """Return when fewer than *needed* of them are left."""
    if needed == 0:
        return None
    ends = sorted(a.expires_at for a in counted if a.expires_at is not None)
    spare = len(counted) - needed
    return ends[spare] if spare < len(ends) else None
