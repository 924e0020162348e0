"""The gates before a pod starts: one question, one function, one line in the list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelops.governance.approvals import Approval, Question, answer
from modelops.governance.requirements import Requirement
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one version when somebody wants to run it in an environment."""

    service: str
    model: str
    version: str
    environment: str
    lifecycle: str = "Active"
    """Active, Deprecated, Archived or Revoked."""
    unresolved: Reason | None = None
    """Why the version is not pinned to its bytes yet; None: it is."""
    unverified: Reason | None = None
    """Why its bytes are not proven yet; None: every byte was hashed."""
    format: str = ""
    artifact_digest: str = ""
    spec_hash: str = ""
    authors: frozenset[str] = frozenset()
    requirement: Requirement = Requirement()
    approvals: tuple[Approval, ...] = ()


Gate = Callable[[Evidence, datetime], Reason | None]


def unresolved(seen: Evidence, now: datetime) -> Reason | None:
    """Hold until the version is pinned to a digest."""
    return seen.unresolved


def inactive(seen: Evidence, now: datetime) -> Reason | None:
    """Hold versions that were taken out of use."""
    if seen.lifecycle in ("Active", "Deprecated"):
        return None
    return Reason(
        f"Version{seen.lifecycle}",
        f"{seen.service}: needs an active version, found {seen.version} with lifecycle {seen.lifecycle}; "
        "use another version",
    )


def unacceptable_format(seen: Evidence, now: datetime) -> Reason | None:
    """Hold formats that the model's governance or the environment does not allow.

    A pickle runs code when it is loaded, so silence never allows it.
    """
    allowed = seen.requirement.formats
    if allowed is None and seen.format.lower() == "pickle":
        return Reason(
            "FormatNotAllowed",
            f"{seen.version}: needs a format that runs no code at load, found pickle, which neither the "
            f"model nor {seen.environment} allows by name; convert it to skops or ONNX, or add pickle to the "
            "model's governance.formats.allowed",
        )
    if allowed is None or seen.format.lower() in {f.lower() for f in allowed}:
        return None
    return Reason(
        "FormatNotAllowed",
        f"{seen.version}: needs one of the formats {', '.join(sorted(allowed)) or 'none'} for "
        f"{seen.environment}, found {seen.format or 'an unknown one'}; convert it or allow the format",
    )


def unapproved(seen: Evidence, now: datetime) -> Reason | None:
    """Hold until enough people approved these very bytes for this environment."""
    question = Question(
        seen.model,
        seen.version,
        seen.environment,
        seen.artifact_digest,
        seen.spec_hash,
        seen.authors,
        seen.requirement,
    )
    return answer(question, seen.approvals, now).hold


def unverified(seen: Evidence, now: datetime) -> Reason | None:
    """Hold until every byte was hashed and the digest is the version's."""
    return seen.unverified


ADMISSION: tuple[Gate, ...] = (unresolved, inactive, unacceptable_format, unapproved, unverified)
"""In the order in which people can act: an approver need not wait for a download."""


def first_hold(gates: Sequence[Gate], seen: Evidence, now: datetime) -> Reason | None:
    """Return the first reason that a gate gives, or None when all are open."""
    return next((reason for gate in gates if (reason := gate(seen, now))), None)
