"""What a decision returns: a plan as a value, and why anything was refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object as it goes to the server: plain dictionaries, camelCase keys."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Say no in one sentence: object, wanted, found, what to do.

    ``code`` is CamelCase, says what is wrong, and never changes once released.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ref:
    """Name one object; ``namespace`` is None for cluster-scoped kinds.

    An empty ``uid`` or ``resource_version`` is no precondition.
    """

    api_version: str
    kind: str
    namespace: str | None
    name: str
    uid: str = ""
    resource_version: str = ""

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True)
class Event:
    """Tell a transition once, as a Kubernetes Event on the planned object."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str
    lasted: timedelta | None = None
    """How long what ends here had lasted; None: nothing ends that is timed."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Change single fields of an object that somebody else owns, as a JSON patch (RFC 6902).

    The resourceVersion of ``ref`` is a precondition: the paths are places in lists, which mean something in
    that version alone.
    """

    ref: Ref
    operations: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that should be true of one object, carried out in this order.

    1. ``status``: the whole status, under the resourceVersion the plan was made from; None leaves it.
    2. ``apply``: children, by server-side apply; equal ones are not written.
    3. ``patch``: single fields of other people's objects.
    4. ``delete``: children that must go.
    5. ``events``: told once each.

    ``after`` is when to look again at the latest; None means at the next resync.
    """

    status: Manifest | None = None
    apply: tuple[Manifest, ...] = ()
    delete: tuple[Ref, ...] = ()
    events: tuple[Event, ...] = ()
    after: timedelta | None = field(default=None)
    patch: tuple[Patch, ...] = ()


def ref(manifest: Manifest) -> Ref:
    """Return the reference of a manifest."""
    meta = manifest["metadata"]
    return Ref(manifest["apiVersion"], manifest["kind"], meta.get("namespace"), meta["name"])


@dataclass(frozen=True, slots=True)
class Claim:
    """What a condition says; ``holds`` None is Unknown: an outside system does not answer."""

    type: str
    holds: bool | None
    reason: str
    message: str


def conditions(
    claims: Sequence[Claim], before: Sequence[Mapping[str, Any]], generation: int, now: datetime
) -> list[Manifest]:
    """Return the claims as Kubernetes conditions; the transition time moves only when a status flips."""
    known = {condition["type"]: condition for condition in before}
    return [_condition(claim, known.get(claim.type), generation, now) for claim in claims]


def _condition(claim: Claim, before: Mapping[str, Any] | None, generation: int, now: datetime) -> Manifest:
    status = "Unknown" if claim.holds is None else str(claim.holds)
    since = before["lastTransitionTime"] if before and before["status"] == status else instant(now)
    return {
        "type": claim.type,
        "status": status,
        "reason": claim.reason,
        "message": claim.message,
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }


def instant(moment: datetime) -> str:
    """Return *moment* as Kubernetes prints times: UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
