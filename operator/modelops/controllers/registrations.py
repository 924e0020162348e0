"""Model, ModelVersion, ModelApproval and RolloutPolicy: gather what their plans look at."""

from datetime import datetime

from modelops.api.meta import Malformed
from modelops.api.model import Model
from modelops.api.names import API_VERSION, DEFAULT_POLICY
from modelops.api.policy import RolloutPolicy
from modelops.api.version import ModelVersion
from modelops.clients.kinds import Resource, resource_of
from modelops.controllers import context, references, rows
from modelops.controllers.context import GateKeys
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Parts
from modelops.controllers.store import Key, OwnRow, Row, Store
from modelops.governance.approvals import Question, answer
from modelops.placement.learned import Learned
from modelops.plan import Plan
from modelops.registry import approval, model, policy, version
from modelops.registry.snapshot import (
    ApprovalSnapshot,
    JobRow,
    ModelSnapshot,
    PolicySnapshot,
    User,
    VersionSnapshot,
)

HUB = "https://huggingface.co"


def _stored(store: Store, key: Key) -> OwnRow | None:
    """Return the row of an own object that is not going away."""
    row = store.get(*key)
    if not isinstance(row, OwnRow) or loaded(row)["metadata"].get("deletionTimestamp"):
        return None
    return row


class Versions:
    """The root of ModelVersions."""

    resource: Resource = resource_of(API_VERSION, "ModelVersion")

    def __init__(self, parts: Parts, keys: GateKeys) -> None:
        self._parts = parts
        self._keys = keys

    def gather(self, key: Key, store: Store) -> VersionSnapshot | None:
        row = _stored(store, key)
        if row is None:
            return None
        obj = loaded(row)
        parsed = ModelVersion.parse(obj)
        found = store.get("Model", key.namespace, parsed.spec.model_ref)
        owner = Model.parse(loaded(found)) if isinstance(found, OwnRow) else None
        status = obj.get("status") or {}
        digest = status.get("artifactDigest") or ""
        environment = context.environment(store, key.namespace)
        settings = self._parts.settings
        floor = settings.environments.get(environment)
        sources = floor.sources if floor and floor.sources else settings.sources
        users = store.find("InferenceService", context.BY_VERSION, f"{key.namespace}/{key.name}")
        return VersionSnapshot(
            version=parsed,
            status=status,
            spec_hash=context.version_spec_hash(obj),
            model=owner,
            environment=environment,
            requirement=context.requirement(self._parts, owner, environment),
            authors=context.authors(parsed),
            approvals=context.approvals(self._parts, self._keys, parsed, owner),
            job=_job(store, parsed),
            wanted_on=_wanted_on(users, key.name),
            cache=context.cache(store, digest) if digest else (),
            measured=_measured(users, key.name),
            used_by=tuple(User("InferenceService", u.namespace, u.name) for u in users),
            image=settings.images.operator,
            pull_policy=settings.image_pull_policy or "IfNotPresent",
            pull_secrets=settings.image_pull_secrets,
            allowed_hosts=tuple(sources.allowed_hosts),
            default_endpoint=HUB,
            refused=self._parts.observations.refused(key),
        )

    def plan(self, seen: VersionSnapshot, now: datetime) -> Plan:
        return version.plan(seen, now)


def _wanted_on(users: tuple[Row, ...], name: str) -> tuple[str, ...]:
    """Return the nodes on which a service is to run this version."""
    nodes = set()
    for row in users:
        status = loaded(row).get("status") or {}
        for record in (status.get("placement") or {}).get("revisions") or ():
            if record.get("version") == name:
                place = record.get("placement") or {}
                nodes |= {place.get("node"), *place.get("members", ())}
    return tuple(sorted(node for node in nodes if node))


def _measured(users: tuple[Row, ...], name: str) -> tuple[Learned, ...]:
    """Return what engines reported that serve this version; of one basis the largest overhead comes last."""
    found = []
    for row in users:
        placed = (loaded(row).get("status") or {}).get("placement") or {}
        found += [Learned.from_status(one) for one in placed.get("measured") or ()]
    own = (one for one in found if one.version == name)
    return tuple(sorted(own, key=lambda one: (one.basis, one.overhead_bytes)))


def _job(store: Store, owner: ModelVersion) -> JobRow | None:
    for row in store.owned("Job", owner.uid):
        assert isinstance(row, rows.JobStored)
        # By uid: a Job that was made again has the name of the one before, whose pods may still be there.
        pods = [p for p in store.owned("Pod", row.uid) if isinstance(p, rows.PodStored)]
        said = [p.last_words for p in pods if p.last_words]
        pending = [p.pending for p in pods if p.pending]
        return JobRow(
            name=row.name,
            uid=row.uid,
            is_done=row.is_done or bool(said),
            is_failed=row.is_failed,
            message=said[-1] if said else "",
            fault=row.fault or (pending[0] if pending else ""),
            ended_at=row.ended_at,
        )
    return None


class Models:
    """The root of Models."""

    resource: Resource = resource_of(API_VERSION, "Model")

    def __init__(self, parts: Parts, keys: GateKeys) -> None:
        self._parts = parts
        self._keys = keys

    def gather(self, key: Key, store: Store) -> ModelSnapshot | None:
        row = _stored(store, key)
        if row is None:
            return None
        obj = loaded(row)
        parsed = Model.parse(obj)
        environment = context.environment(store, key.namespace)
        demand = context.requirement(self._parts, parsed, environment)
        place = f"{key.namespace}/{key.name}"
        versions = tuple(
            ModelVersion.parse(loaded(v)) for v in store.find("ModelVersion", references.BY_MODEL, place)
        )
        now = self._parts.clock.now()
        approved = []
        users: set[str] = set()
        for v in versions:
            users |= {
                u.name
                for u in store.find("InferenceService", context.BY_VERSION, f"{key.namespace}/{v.name}")
            }
            question = Question(
                parsed.name,
                v.name,
                environment,
                v.status.artifact_digest or "",
                v.status.spec_hash or "",
                context.authors(v),
                demand,
            )
            found = answer(question, context.approvals(self._parts, self._keys, v, parsed), now)
            if v.status.artifact_digest and found.hold is None:
                approved.append(v.name)
        return ModelSnapshot(parsed, obj.get("status") or {}, versions, tuple(approved), len(users))

    def plan(self, seen: ModelSnapshot, now: datetime) -> Plan:
        return model.plan(seen, now)


class Approvals:
    """The root of ModelApprovals."""

    resource: Resource = resource_of(API_VERSION, "ModelApproval")

    def __init__(self, parts: Parts, keys: GateKeys) -> None:
        self._parts = parts
        self._keys = keys

    def gather(self, key: Key, store: Store) -> ApprovalSnapshot | None:
        row = _stored(store, key)
        return None if row is None else context.approval_snapshot(self._parts, self._keys, loaded(row))

    def plan(self, seen: ApprovalSnapshot, now: datetime) -> Plan:
        return approval.plan(seen, now)


class Policies:
    """The root of RolloutPolicies."""

    resource: Resource = resource_of(API_VERSION, "RolloutPolicy")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def gather(self, key: Key, store: Store) -> PolicySnapshot | None:
        row = _stored(store, key)
        if row is None:
            return None
        obj = loaded(row)
        fault = ""
        try:
            parsed = RolloutPolicy.parse(obj)
            parsed.spec.in_force()
        except Malformed as error:
            parsed, fault = RolloutPolicy.parse({**obj, "spec": {}}), str(error)
        is_default = parsed.metadata.labels.get(DEFAULT_POLICY) == "true"
        names = (key.name, "") if is_default else (key.name,)
        users = sum(
            len(store.find("InferenceService", references.BY_POLICY, f"{key.namespace}/{name}"))
            for name in names
        )
        return PolicySnapshot(parsed, obj.get("status") or {}, fault, users)

    def plan(self, seen: PolicySnapshot, now: datetime) -> Plan:
        return policy.plan(seen, now)
