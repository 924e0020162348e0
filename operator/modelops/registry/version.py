"""Decide everything about one ModelVersion: pin it, have it fetched and proven, say who must approve."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from modelops.api.names import UNKNOWN_ENVIRONMENT
from modelops.api.quantities import readable_bytes
from modelops.api.version import ModelVersion
from modelops.governance.approvals import Answer, Question, answer, unknown
from modelops.placement.learned import Learned, kept
from modelops.plan import Claim, Manifest, Plan, Reason, Ref, conditions
from modelops.registry import resolution
from modelops.registry.snapshot import CacheRow, VersionSnapshot

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=30)
SILENCE = timedelta(minutes=1)
"""How long the pod of a complete Job may stay unseen before its words count as lost."""
MOST_USERS = 100
_OPEN = ("Resolving", "ResolveFailed", "EnvironmentUnknown")
"""Why a version is not pinned that may be yet."""


def plan(seen: VersionSnapshot, now: datetime) -> Plan:
    """Return what should be true of the version at *now*.

    Facts once resolved never change: the version is its bytes.  Law: planning again writes nothing.
    """
    step = _pinned(seen) or _nowhere(seen) or _refused(seen) or _resolve(seen, now)
    pinned = step.known if isinstance(step.known, resolution.Resolved) else None
    reason = step.known if isinstance(step.known, Reason) else None
    answered = _answer(seen, pinned, now)
    status = _status(seen, pinned, reason, answered, now)
    ends = [end for end in (step.until, answered.until) if end is not None]
    after = min(ends) - now if ends else None
    return Plan(status=status, apply=step.apply, delete=step.delete, after=after)


@dataclass(frozen=True, slots=True)
class Resolving:
    """How far the version is pinned: what is known, and the Job that finds out or goes."""

    known: resolution.Resolved | Reason
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    until: datetime | None = None
    """When to look again; None: when something changes."""


def _pinned(seen: VersionSnapshot) -> Resolving | None:
    """Return what the status already holds; it was written once and stays.  The Job has served."""
    digest = seen.status.get("artifactDigest")
    facts = seen.status.get("resolved")
    if not digest or not facts:
        return None
    known = resolution.Resolved(
        facts.get("revision", ""), digest, facts.get("files", 0), facts.get("bytes", 0), facts
    )
    return Resolving(known, delete=(_job_ref(seen),) if seen.job else ())


def _nowhere(seen: VersionSnapshot) -> Resolving | None:
    """Hold while the environment is not known: which hosts may be called is its administrators' to say."""
    reason = unknown(seen.version.name, seen.environment)
    return Resolving(reason) if reason else None


def _refused(seen: VersionSnapshot) -> Resolving | None:
    """Refuse an address that no administrator allowed; the operator itself never calls any."""
    source = seen.version.spec.source.hugging_face
    endpoint = (source.endpoint if source else None) or seen.default_endpoint
    host = (urlsplit(endpoint).hostname or "").lower()
    if host in {h.lower() for h in seen.allowed_hosts}:
        return None
    return Resolving(
        Reason(
            "HostNotAllowed",
            f"{seen.version.name}: needs a host of sources.allowedHosts, found {host or endpoint}; "
            "ask an administrator to allow it",
        ),
        delete=(_job_ref(seen),) if seen.job else (),
    )


def _resolve(seen: VersionSnapshot, now: datetime) -> Resolving:
    """Return the Job to run, the one to remove, and what is known so far."""
    version = seen.version
    secret = version.spec.auth_secret_ref
    source = version.spec.source.hugging_face
    assert source is not None, "CEL admits no other source"
    job = resolution.job(
        namespace=version.namespace or "",
        name=version.name,
        uid=version.uid,
        spec_hash=seen.spec_hash,
        source={"huggingFace": {"endpoint": seen.default_endpoint, **source.to_wire()}},
        secret=secret.name if secret else None,
        image=seen.image,
        pull_policy=seen.pull_policy,
        pull_secrets=seen.pull_secrets,
        allowed_hosts=seen.allowed_hosts,
    )
    row = seen.job
    if row is None:
        return Resolving(seen.refused or _waiting(seen), apply=(job,))
    if not (row.is_done or row.is_failed):
        return Resolving(_waiting(seen))  # never applied again: the server refuses to change a Job
    said = resolution.read(row.message) if row.is_done else None
    if said is not None:
        return Resolving(_of_wanted_format(seen, said))
    if row.is_done and not row.message and row.ended_at is not None and now - row.ended_at < SILENCE:
        return Resolving(_waiting(seen), until=row.ended_at + SILENCE)  # its pod may not be seen yet
    why = row.fault or "its last words could not be read"
    failed = Reason(
        "ResolveFailed",
        f"{version.name}: needs its source pinned to a commit, the Job {row.name} failed ({why}); "
        "it is tried again after a pause, or at once when the Job is deleted",
    )
    due = row.ended_at + _pause(seen, row.ended_at) if row.ended_at else now
    if now < due:
        return Resolving(failed, until=due)
    return Resolving(failed, delete=(_job_ref(seen),))


def _pause(seen: VersionSnapshot, ended_at: datetime) -> timedelta:
    """Return half of the time for which the version has been tried, within 1 and 30 minutes."""
    since = next(
        (
            datetime.fromisoformat(c["lastTransitionTime"])
            for c in seen.status.get("conditions", ())
            if c["type"] == "Resolved"
        ),
        ended_at,
    )
    return min(max((ended_at - since) / 2, SHORTEST_PAUSE), LONGEST_PAUSE)


def _waiting(seen: VersionSnapshot) -> Reason:
    fault = f": {seen.job.fault}" if seen.job and seen.job.fault else ""
    return Reason("Resolving", f"{seen.version.name}: its source is being pinned to a commit{fault}")


def _of_wanted_format(
    seen: VersionSnapshot, said: resolution.Resolved | Reason
) -> resolution.Resolved | Reason:
    """Return what the Job said, or that the files are not stored the way the author wants."""
    wanted = seen.version.spec.format
    if isinstance(said, Reason) or wanted is None or said.facts.get("format") == wanted:
        return said
    found = said.facts.get("format", "an unknown one")
    return Reason(
        "OtherFormat",
        f"{seen.version.name}: needs {wanted} by spec.format, found {found}; "
        "create a version that names its format or none",
    )


def _job_ref(seen: VersionSnapshot) -> Ref:
    assert seen.job is not None
    return Ref("batch/v1", "Job", seen.version.namespace, seen.job.name, seen.job.uid)


def _answer(seen: VersionSnapshot, pinned: resolution.Resolved | None, now: datetime) -> Answer:
    if pinned is None:
        return Answer((), (), Reason("NotResolved", f"{seen.version.name}: its bytes are not known yet"))
    if seen.model is None:
        return Answer((), (), model_not_found(seen.version))
    question = Question(
        seen.version.spec.model_ref,
        seen.version.name,
        seen.environment,
        pinned.artifact_digest,
        seen.spec_hash,
        seen.authors,
        seen.requirement,
    )
    return answer(question, seen.approvals, now)


def model_not_found(version: ModelVersion) -> Reason:
    """Return why a version without its Model runs nowhere: nobody says what must be true before."""
    name = version.spec.model_ref
    return Reason(
        "ModelNotFound",
        f"{version.name}: needs Model {name} in namespace {version.namespace}, found none; create it",
    )


def _status(
    seen: VersionSnapshot,
    pinned: resolution.Resolved | None,
    refusal: Reason | None,
    answered: Answer,
    now: datetime,
) -> Manifest:
    """Return the whole status: server-side apply removes whatever is left out."""
    claims = _claims(seen, pinned, refusal, answered)
    generation = seen.version.metadata.generation
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "phase": _phase(seen, claims),
        "specHash": seen.spec_hash,
        "conditions": conditions(claims, seen.status.get("conditions", ()), generation, now),
    }
    if seen.environment != UNKNOWN_ENVIRONMENT:
        status["approval"] = {"environments": [_approval(seen, answered)]}
    if pinned is not None:
        status["artifactDigest"] = pinned.artifact_digest
        status["resolved"] = _facts(pinned)
        status["size"] = readable_bytes(pinned.bytes)
        nodes = _nodes(seen)
        if nodes:
            status["cache"] = {"nodes": nodes}
    measured = kept(map(Learned.from_status, seen.status.get("measured") or ()), seen.measured)
    if measured:
        status["measured"] = [one.to_status() for one in measured]
    status["usedByCount"] = len(seen.used_by)
    if seen.used_by:
        status["usedBy"] = [
            {"kind": user.kind, "namespace": user.namespace, "name": user.name}
            for user in seen.used_by[:MOST_USERS]
        ]
    return status


def _facts(pinned: resolution.Resolved) -> dict[str, Any]:
    return {
        **pinned.facts,
        "revision": pinned.revision,
        "files": pinned.files,
        "bytes": pinned.bytes,
    }


def _approval(seen: VersionSnapshot, answered: Answer) -> dict[str, Any]:
    hold = answered.hold
    line: dict[str, Any] = {
        "name": seen.environment,
        "approved": hold is None,
        "have": len(answered.approvers),
        "needed": seen.requirement.approvals,
        "approvers": list(answered.approvers),
        "reason": hold.code if hold else "QuorumReached",
        "message": hold.message if hold else _granted(seen, answered),
        "ignored": [
            {"name": i.approval, "reason": i.reason.code, "message": i.reason.message}
            for i in answered.ignored
        ][-10:],
    }
    if answered.until is not None:
        line["expiresAt"] = answered.until.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {key: value for key, value in line.items() if value not in ([], "")}


def _granted(seen: VersionSnapshot, answered: Answer) -> str:
    if not seen.requirement.approvals:
        return f"{seen.version.name}: no approval is needed for {seen.environment}"
    return f"{seen.version.name}: approved for {seen.environment} by {', '.join(answered.approvers)}"


def _nodes(seen: VersionSnapshot) -> list[dict[str, Any]]:
    """Return what every node has or should have, by name."""
    rows = {row.node: row for row in seen.cache}
    for node in seen.wanted_on:
        rows.setdefault(node, CacheRow(node, "Wanted"))
    lines = []
    for node, row in sorted(rows.items()):
        line: dict[str, Any] = {"name": node, "phase": row.phase}
        if row.total_bytes:
            line |= {"bytes": row.bytes, "totalBytes": row.total_bytes}
        if row.message:
            line["message"] = row.message
        lines.append(line)
    return lines


def _claims(
    seen: VersionSnapshot,
    pinned: resolution.Resolved | None,
    refusal: Reason | None,
    answered: Answer,
) -> Sequence[Claim]:
    name = seen.version.name
    if pinned is None:
        reason = refusal or Reason("Resolving", f"{name}: its source is being pinned to a commit")
        known = None if refusal is seen.refused or reason.code in _OPEN else False
        resolved = Claim("Resolved", known, reason.code, reason.message)
    else:
        message = f"{name}: pinned to {pinned.revision}, {pinned.files} files, {pinned.bytes} bytes"
        resolved = Claim("Resolved", True, "Pinned", message)
    verified = _verified(seen, pinned)
    approved = Claim(
        "Approved",
        answered.hold is None if pinned else None,
        answered.hold.code if answered.hold else "QuorumReached",
        answered.hold.message if answered.hold else _granted(seen, answered),
    )
    active = _active(seen)
    worst = next((c for c in (active, resolved, approved, verified) if c and c.holds is not True), None)
    if worst is None:
        ready = Claim("Ready", True, "Ready", f"{name}: may run in {seen.environment}")
    else:
        ready = Claim("Ready", False, worst.reason, worst.message)
    return (resolved, verified, approved, ready)


def _active(seen: VersionSnapshot) -> Claim | None:
    lifecycle = seen.version.spec.lifecycle or "Active"
    if lifecycle in ("Active", "Deprecated"):
        return None
    message = f"{seen.version.name}: is {lifecycle}; use another version"
    return Claim("Active", False, f"Version{lifecycle}", message)


def _verified(seen: VersionSnapshot, pinned: resolution.Resolved | None) -> Claim:
    name = seen.version.name
    if pinned is None:
        return Claim("IntegrityVerified", None, "NotResolved", f"{name}: its bytes are not known yet")
    proven = sorted(row.node for row in seen.cache if row.phase == "Ready")
    if proven:
        message = f"{name}: every byte was hashed on {', '.join(proven)} and gives {pinned.artifact_digest}"
        return Claim("IntegrityVerified", True, "Verified", message)
    if _was_verified(seen):
        return Claim("IntegrityVerified", True, "Verified", f"{name}: every byte was hashed before")
    failed = next((row for row in seen.cache if row.phase == "Failed"), None)
    if failed is not None:
        return Claim("IntegrityVerified", False, "FetchFailed", f"{name} on {failed.node}: {failed.message}")
    where = ", ".join(seen.wanted_on)
    doing = f"is fetched on {where}" if where else "waits for a service that places it on a node"
    return Claim("IntegrityVerified", None, "NotFetched", f"{name}: {doing}; its bytes are not proven yet")


def _was_verified(seen: VersionSnapshot) -> bool:
    """Return whether the bytes were proven before: a node that lets them go takes nothing back."""
    return any(
        c["type"] == "IntegrityVerified" and c["status"] == "True" for c in seen.status.get("conditions", ())
    )


def _phase(seen: VersionSnapshot, claims: Sequence[Claim]) -> str:
    """Return one word for people; nothing decides by it."""
    by_type = {claim.type: claim for claim in claims}
    lifecycle = seen.version.spec.lifecycle or "Active"
    if lifecycle != "Active":
        return str(lifecycle)
    resolved, verified, approved = (by_type[t] for t in ("Resolved", "IntegrityVerified", "Approved"))
    if resolved.holds is not True:
        return "Failed" if resolved.holds is False else "Resolving"
    if approved.reason in ("Revoked", "Rejected"):
        return approved.reason
    if approved.reason == "ApprovalExpired":
        return "Expired"
    if verified.holds is False:
        return "Quarantined"
    if approved.holds is not True:
        return "PendingApproval"
    return "Approved" if verified.holds else "Verifying"
