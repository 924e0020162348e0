"""Say of each lost request which killed pod held it, and of each object that is stuck why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Manifest = Mapping[str, Any]

SAME = 0.5
"""Seconds within which a client's and the gateway's beginning of a request are the same."""
FOUND_OUT = 30.0
"""Seconds after its end in which a pod may still be sent requests: the API server may be away as well."""
LEASE_SECONDS = 15.0
OUR_MARK = ("app.kubernetes.io/managed-by", "modelops")
DIGEST = "modelops.dev/digest"
REVISION = "modelops.dev/revision"
GONE_FLAGS = frozenset({"", "-", "DC", "DPE"})
"""What a gateway says of a request that no pod lost: nothing, or that its client went away."""


# --- requests ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kill:
    """A serving pod that was killed; instants are seconds since the epoch."""

    pod: str
    address: str
    at: float


@dataclass(frozen=True, slots=True)
class Passed:
    """A request as the gateway logged it."""

    began: float
    ended: float
    address: str
    """Of the pod that got it; empty: none did."""
    code: int
    flags: str

    @property
    def is_lost(self) -> bool:
        """Whether it went wrong on the pod's side."""
        return self.code >= 500 or self.code == 0 or self.flags not in GONE_FLAGS


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that went wrong for a user."""

    began: float
    ended: float
    what: str
    """Such as "stream, status 200: ended without [DONE]"."""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of lost requests."""

    held: Mapping[str, int]
    """By pod: those it had when it was killed."""
    late: Mapping[str, int]
    """By pod: those it was sent after that, until everybody knew."""
    unexplained: tuple[Lost, ...]
    """No killed pod had them: somebody else lost them."""


def read_passed(line: Mapping[str, Any]) -> Passed | None:
    """Return an access log entry of the gateway; None: it is none."""
    start, duration = line.get("start_time"), line.get("duration")
    if not start or duration is None:
        return None
    began = datetime.fromisoformat(str(start)).timestamp()
    host = str(line.get("upstream_host") or "-")
    address = "" if host == "-" else host.rpartition(":")[0]
    code = str(line.get("response_code") or 0)
    flags = str(line.get("response_flags") or "-")
    return Passed(began, began + float(duration) / 1000, address, int(code) if code.isdigit() else 0, flags)


def attribute(lost: Iterable[Lost], passed: Iterable[Passed], kills: Sequence[Kill]) -> Account:
    """Give each lost request to the killed pod that had it, by the gateway's log."""
    left = sorted((one for one in passed if one.is_lost), key=lambda one: one.began)
    held: dict[str, int] = {}
    late: dict[str, int] = {}
    unexplained: list[Lost] = []
    for one in sorted(lost, key=lambda one: one.began):
        entry = min(left, key=lambda seen: abs(seen.began - one.began), default=None)
        kill = None
        if entry is not None and abs(entry.began - one.began) <= SAME:
            left.remove(entry)
            kill = _killer(entry, kills)
        if entry is None or kill is None:
            unexplained.append(one)
            continue
        share = held if entry.began <= kill.at else late
        share[kill.pod] = share.get(kill.pod, 0) + 1
    return Account(held, late, tuple(unexplained))


def _killer(entry: Passed, kills: Sequence[Kill]) -> Kill | None:
    """Return the kill that ended a request: of its pod, before its end, and not long before its beginning."""
    fitting = [
        kill
        for kill in kills
        if kill.address == entry.address
        and kill.at - SAME <= entry.ended
        and entry.began <= kill.at + FOUND_OUT
    ]
    return max(fitting, key=lambda kill: kill.at, default=None)


# --- objects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that is there after the quiet."""

    services: Sequence[Manifest]
    ours: Sequence[Manifest]
    """All other objects of our kinds."""
    children: Sequence[Manifest]
    """Namespaced objects that bear our mark."""
    volumes: Sequence[Manifest]
    pods: Sequence[Manifest]
    """Of the namespaces of services and of the product."""
    lease: Manifest
    leaders: tuple[str, ...]
    """Pods that could hold the Lease."""
    now: datetime


def stuck(found: Found) -> tuple[str, ...]:
    """Return one sentence for each thing that is not as it should be; none: all is well."""
    everything = (*found.services, *found.ours, *found.children, *found.volumes, *found.pods)
    return (
        *(text for obj in everything for text in _going(obj)),
        *(text for service in found.services for text in _service(service)),
        *_orphans(found),
        *_volumes(found),
        *(text for pod in found.pods for text in _pod(pod)),
        *_lease(found),
    )


def name(obj: Manifest) -> str:
    """Return the kind and the place of an object."""
    meta = obj["metadata"]
    return f"{obj['kind']} {'/'.join(part for part in (meta.get('namespace'), meta['name']) if part)}"


def _going(obj: Manifest) -> Iterable[str]:
    meta = obj["metadata"]
    if meta.get("deletionTimestamp"):
        yield f"{name(obj)}: is going since {meta['deletionTimestamp']}, held by {meta.get('finalizers')}"
    elif obj["apiVersion"].startswith("modelops.dev/") and meta.get("finalizers"):
        yield f"{name(obj)}: has finalizers {meta['finalizers']}"


def _service(service: Manifest) -> Iterable[str]:
    status = service.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    for type_, wanted in (("Ready", "True"), ("Stalled", "False"), ("Reconciling", "False")):
        seen = conditions.get(type_) or {"status": "absent", "reason": "", "message": ""}
        if seen["status"] != wanted:
            yield f"{name(service)}: {type_} is {seen['status']}, {seen['reason']}: {seen['message']}"
    if status.get("observedGeneration") != service["metadata"].get("generation"):
        yield (
            f"{name(service)}: generation {service['metadata'].get('generation')} is there, "
            f"{status.get('observedGeneration')} was planned"
        )
    phase = (status.get("rollout") or {}).get("phase")
    if phase != "Stable":
        yield f"{name(service)}: its rollout is {phase}"


def _orphans(found: Found) -> Iterable[str]:
    """Yield children whose owner is gone, of revisions that do not serve, and Jobs that are left."""
    owners = {obj["metadata"]["uid"]: obj for obj in (*found.services, *found.ours, *found.children)}
    for child in found.children:
        references = child["metadata"].get("ownerReferences") or ()
        if any(reference["uid"] not in owners for reference in references):
            yield f"{name(child)}: its owner is gone"
        if child["kind"] == "Job":
            yield f"{name(child)}: is left of a version that is pinned"
        revision = (child["metadata"].get("labels") or {}).get(REVISION)
        serving = {
            ((service.get("status") or {}).get("stable") or {}).get("hash") for service in found.services
        }
        if revision and child["kind"] != "Pod" and revision not in serving:
            yield f"{name(child)}: revision {revision} does not serve"


def _stable(service: Manifest) -> str:
    return str(((service.get("status") or {}).get("stable") or {}).get("hash", ""))


def _volumes(found: Found) -> Iterable[str]:
    used = {
        (service["metadata"]["namespace"], record["digest"].removeprefix("sha256:"))
        for service in found.services
        for record in ((service.get("status") or {}).get("placement") or {}).get("revisions") or ()
    }
    for volume in found.volumes:
        namespace = (volume["spec"].get("claimRef") or {}).get("namespace")
        digest = (volume["metadata"].get("labels") or {}).get(DIGEST, "")
        if not any(place == namespace and known.startswith(digest) for place, known in used):
            yield f"{name(volume)}: no service uses it"
        phase = (volume.get("status") or {}).get("phase")
        if phase != "Bound":
            yield f"{name(volume)}: is {phase}, not Bound"


def _pod(pod: Manifest) -> Iterable[str]:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    if not ready:
        yield f"{name(pod)}: is {status.get('phase')}, not ready"


def _lease(found: Found) -> Iterable[str]:
    spec = found.lease.get("spec") or {}
    holder = str(spec.get("holderIdentity") or "")
    renewed = datetime.fromisoformat(spec.get("renewTime") or "1970-01-01T00:00:00Z")
    if holder.rpartition("_")[0] not in found.leaders:
        yield f"{name(found.lease)}: held by {holder or 'nobody'}, who is none of {', '.join(found.leaders)}"
    if found.now - renewed > timedelta(seconds=LEASE_SECONDS):
        yield f"{name(found.lease)}: was renewed last at {renewed}, now is {found.now}"
