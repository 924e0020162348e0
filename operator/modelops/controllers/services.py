"""InferenceService: gather what its plan looks at."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from modelops.api.meta import Malformed
from modelops.api.model import Model, ModelType
from modelops.api.names import API_VERSION, CANARY, DEFAULT_POLICY, STABLE, role_service_name
from modelops.api.policy import Policy, Preset, RolloutPolicy
from modelops.api.service import InferenceService
from modelops.api.version import ModelVersion
from modelops.clients.kinds import Resource, resource_of
from modelops.controllers import context, references, route_rows, rows
from modelops.controllers.context import GateKeys
from modelops.controllers.promises import Promises
from modelops.controllers.reading import Memory, Reading
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Parts
from modelops.controllers.stock import Stock
from modelops.controllers.store import Key, OwnRow, Unseen
from modelops.governance.countersign import GateState
from modelops.placement.inventory import Inventory
from modelops.placement.learned import Learned
from modelops.placement.reservations import reserve
from modelops.plan import Plan, Reason, Ref
from modelops.registry.snapshot import CacheRow
from modelops.registry.version import model_not_found
from modelops.serving import plan as serving
from modelops.serving.groups import GROUP_API
from modelops.serving.manifests import Gateway, Images
from modelops.serving.monitors import MONITOR_API, Monitor
from modelops.serving.snapshot import (
    ApexRow,
    ChildRow,
    Defaults,
    EvaluationRow,
    LentRow,
    Measured,
    PodRow,
    RouteRow,
    Snapshot,
    VersionRow,
)
from modelops.serving.splitters import GRPC_ROUTE, HTTP_ROUTE, ROUTE_API

MEASURED = "measured"
"""Topic under which the samples of a run are left."""
REPORTS = "reports"
"""Topic under which engines' reports of their caches are left."""
PLACES = ("Node", "ModelNode")
"""Kinds without which no place can be chosen."""
CHILD_KINDS = (
    ("apps/v1", "Deployment"),
    (GROUP_API, "LeaderWorkerSet"),
    ("v1", "Service"),
    ("policy/v1", "PodDisruptionBudget"),
)


class Services:
    """The root of InferenceServices."""

    resource: Resource = resource_of(API_VERSION, "InferenceService")
    rests = True

    def __init__(self, parts: Parts, keys: GateKeys) -> None:
        self._parts = parts
        self._keys = keys
        self._defaults = defaults(parts)
        self._promises = Promises(parts.store)
        self._versions: Memory[tuple[VersionRow, Model | None] | None] = Memory()
        self._policies: Memory[Policy | str | None] = Memory()
        self._stock = Stock(parts.store)

    def gather(self, key: Key, reading: Reading) -> Snapshot | None:
        """Return the snapshot; None for one that is going away."""
        row = reading.get(*key)
        if not isinstance(row, OwnRow):
            return None
        obj = reading.loaded(row)
        if obj["metadata"].get("deletionTimestamp"):
            return None
        service = InferenceService.parse(obj)
        environment = context.environment(reading, key.namespace)
        wanted, model = self._wanted(reading, service, environment)
        policy, fault = self._policy(reading, service)
        measured = reading.observation(key, MEASURED)
        return Snapshot(
            service=service,
            status=obj.get("status") or {},
            environment=environment,
            defaults=self._defaults,
            stock=lambda: self._looked_for_room(key, reading),
            wanted=wanted,
            versions=self._roles(reading, obj, environment),
            nodes_unseen=next((why.told for kind in PLACES if (why := reading.unseen(kind))), ""),
            policy=policy,
            policy_fault=fault,
            runtime=_runtime(model),
            pods=tuple(_pods(reading, key)),
            children=tuple(_children(reading, service.uid)),
            evaluations=tuple(_evaluations(reading, service.uid)),
            monitors=tuple(_monitors(reading, service.uid)),
            route=_route(reading, HTTP_ROUTE, key),
            grpc_route=_route(reading, GRPC_ROUTE, key),
            lent=tuple(_lent(reading, key)),
            aims=dict(_aims(reading, key, service.uid)),
            apex=_apex(reading, key, service.uid),
            features=self._features(reading, service),
            measured=measured if isinstance(measured, Measured) else Measured(),
            # Asked about actions alone, so that a change of the gate lets all others rest.
            gate=context.gate(reading) if service.spec.rollout else GateState(),
            reports=reading.observation(key, REPORTS) or (),
            refused=reading.refused(),
        )

    def plan(self, seen: Snapshot, now: datetime) -> Plan:
        made = serving.plan(seen, now)
        self._promises.note(Key(self.resource.kind, seen.namespace, seen.name), made)
        return made

    # --- the wanted version ---------------------------------------------------------------------------

    def _wanted(
        self, reading: Reading, service: InferenceService, environment: str
    ) -> tuple[VersionRow | Reason, Model | None]:
        namespace = service.namespace or ""
        name = self._version_name(reading, service, namespace)
        if isinstance(name, Reason):
            return name, None
        found = self._version(reading, namespace, name, environment)
        if found is None:
            return (
                Reason(
                    "VersionNotFound",
                    f"{service.name}: needs ModelVersion {name} in namespace {namespace}, found none; "
                    "create it or name another",
                ),
                None,
            )
        return found

    def _roles(self, reading: Reading, obj: Mapping[str, Any], environment: str) -> dict[str, VersionRow]:
        """Return the versions that have a role, where they still exist."""
        status = obj.get("status") or {}
        previous = (status.get("rollout") or {}).get("previous")
        names = {
            (role or {}).get("version") for role in (status.get("stable"), status.get("candidate"), previous)
        }
        namespace = obj["metadata"]["namespace"]
        found = ((name, self._version(reading, namespace, name, environment)) for name in names if name)
        return {name: version[0] for name, version in found if version is not None}

    def _version_name(self, reading: Reading, service: InferenceService, namespace: str) -> str | Reason:
        choice = service.spec.model
        if choice.version:
            return choice.version
        row = reading.get("Model", namespace, choice.name or "")
        if not isinstance(row, OwnRow):
            return Reason(
                "ModelNotFound",
                f"{service.name}: needs Model {choice.name} in namespace {namespace}, found none; create it",
            )
        aliases: Mapping[str, str] = loaded(row)["spec"].get("aliases") or {}
        found = aliases.get(choice.alias or "")
        if found:
            return found
        return Reason(
            "AliasNotFound",
            f"{service.name}: needs alias {choice.alias} of Model {choice.name}, found "
            f"{', '.join(sorted(aliases)) or 'none'}; set the alias or name a version",
        )

    def _version(
        self, reading: Reading, namespace: str, name: str, environment: str
    ) -> tuple[VersionRow, Model | None] | None:
        """Return a version with its model; None when it does not exist.  Services share what they run."""
        what = namespace, name, environment
        return self._versions.recall(reading, what, lambda part: self._read_version(part, *what))

    def _read_version(
        self, reading: Reading, namespace: str, name: str, environment: str
    ) -> tuple[VersionRow, Model | None] | None:
        stored = reading.get("ModelVersion", namespace, name)
        if not isinstance(stored, OwnRow):
            return None
        obj = loaded(stored)
        version = ModelVersion.parse(obj)
        status = obj.get("status") or {}
        found = reading.get("Model", namespace, version.spec.model_ref)
        model = Model.parse(loaded(found)) if isinstance(found, OwnRow) else None
        digest = status.get("artifactDigest") or ""
        cache = context.cache(reading, digest) if digest else ()
        row = VersionRow(
            version=version,
            resolved=status.get("resolved") or {},
            digest=digest,
            spec_hash=context.version_spec_hash(obj),
            unresolved=_unresolved(version, model, status),
            unverified=_unverified(version.name, status, cache, reading.unseen("ModelNode")),
            authors=context.authors(version),
            requirement=context.requirement(self._parts, model, environment),
            approvals=context.approvals(reading, self._keys, version, model),
            model_type=str(model.spec.type) if model else "",
            learned=tuple(map(Learned.from_status, status.get("measured") or ())),
        )
        return row, model

    # --- the rest -------------------------------------------------------------------------------------

    def _policy(self, reading: Reading, service: InferenceService) -> tuple[Policy | None, Reason | None]:
        namespace = service.namespace or ""
        if service.spec.rollout_policy_ref is not None:
            name = service.spec.rollout_policy_ref.name
            found = self._in_force(reading, namespace, name)
            if found is None:
                return None, Reason(
                    "PolicyMissing",
                    f"{service.name}: needs RolloutPolicy {name} in namespace {namespace}, found none; "
                    "create it",
                )
            return _named(service, name, found)
        marked = reading.find("RolloutPolicy", references.DEFAULT, namespace)
        if len(marked) > 1:
            names = ", ".join(sorted(row.name for row in marked))
            return None, Reason(
                "SeveralDefaultPolicies",
                f"{service.name}: needs one default RolloutPolicy in namespace {namespace}, found {names}; "
                f"leave the label {DEFAULT_POLICY} on one of them",
            )
        if not marked:
            return None, None
        return _named(service, marked[0].name, self._in_force(reading, namespace, marked[0].name))

    def _in_force(self, reading: Reading, namespace: str, name: str) -> Policy | str | None:
        """Return a policy with its defaults, what is wrong with it, or None when it does not exist."""
        return self._policies.recall(
            reading, (namespace, name), lambda part: _read_policy(part, namespace, name)
        )

    def _features(self, reading: Reading, service: InferenceService) -> frozenset[str] | None:
        """Return what the class of the service's Gateway lists; None: nothing, or it is not to be seen."""
        wanted = service.spec.traffic.gateway_ref if service.spec.traffic else None
        default, own = self._defaults.gateway, service.namespace or ""
        name = wanted.name if wanted else default.name if default else ""
        namespace = (wanted.namespace or own) if wanted else default.namespace if default else ""
        gateway = reading.get("Gateway", namespace, name)
        if not isinstance(gateway, route_rows.GatewayStored):
            return None
        found = reading.get("GatewayClass", "", gateway.class_name)
        return found.features if isinstance(found, route_rows.GatewayClassStored) else None

    def _looked_for_room(self, key: Key, reading: Reading) -> Inventory:
        """Return the cluster without what others have been promised."""
        reading.can_be_marked = False  # too much to be noted: it is looked at again at each resync
        return reserve(self._stock.inventory(), self._promises.unbound(key))

    @property
    def stock(self) -> Stock:
        """What nodes have and pods take."""
        return self._stock

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of what is kept by service, to prove that nothing is left behind."""
        return self._promises.sizes


def defaults(parts: Parts) -> Defaults:
    """Return what the settings say where a service says nothing."""
    settings = parts.settings
    gateway, monitor = settings.gateway, settings.pod_monitor
    return Defaults(
        images=Images(
            settings.images.operator,
            settings.image_pull_policy or "IfNotPresent",
            settings.image_pull_secrets,
        ),
        gateway=Gateway(gateway.name, gateway.namespace or "", gateway.section_name, gateway.domain or "")
        if gateway.name
        else None,
        store=settings.delivery.store,
        engine_images=settings.images.engine_images,
        engine_commands=settings.images.engine_commands,
        monitor=Monitor(monitor.interval, monitor.labels) if monitor else None,
    )


def _read_policy(reading: Reading, namespace: str, name: str) -> Policy | str | None:
    row = reading.get("RolloutPolicy", namespace, name)
    if not isinstance(row, OwnRow):
        return None
    try:
        return RolloutPolicy.parse(loaded(row)).spec.in_force()
    except Malformed as error:
        return str(error)


def _named(
    service: InferenceService, name: str, found: Policy | str | None
) -> tuple[Policy | None, Reason | None]:
    """Return the policy of a service, or the fault that keeps it from being used."""
    if isinstance(found, str):
        return None, Reason("PolicyMalformed", f"{service.name}: RolloutPolicy {name}: {found}")
    return found, None


def _runtime(model: Model | None) -> Preset:
    is_llm = model is None or model.spec.type in (ModelType.LLM, ModelType.CUSTOM)
    return Preset.LLM if is_llm else Preset.PREDICTIVE


def _unresolved(version: ModelVersion, model: Model | None, status: Mapping[str, Any]) -> Reason | None:
    if model is None:
        return model_not_found(version)
    name = version.name
    if status.get("artifactDigest"):
        return None
    for condition in status.get("conditions") or ():
        if condition["type"] == "Resolved" and condition["status"] != "True":
            return Reason(condition["reason"], condition["message"])
    return Reason("Resolving", f"{name}: its source is being pinned to a commit; wait for it")


def _unverified(
    name: str, status: Mapping[str, Any], cache: Iterable[CacheRow], unseen: Unseen | None
) -> Reason | None:
    entries = tuple(cache)
    if any(entry.phase == "Ready" for entry in entries):
        return None
    for condition in status.get("conditions") or ():
        if condition["type"] == "IntegrityVerified":
            if condition["status"] == "True":
                return None
            if unseen is None:
                return Reason(condition["reason"], condition["message"])
    if unseen is not None:
        return Reason(
            "ModelNodesUnseen",
            f"{name}: needs a ModelNode that proves its bytes, found {unseen.told}; give the operator that "
            "right: the chart's rbac.clusterReader",
        )
    return Reason("NotFetched", f"{name}: its bytes are not proven yet; wait for a node to fetch them")


def _pods(reading: Reading, key: Key) -> Iterable[PodRow]:
    for row in reading.find("Pod", references.BY_SERVICE, f"{key.namespace}/{key.name}"):
        assert isinstance(row, rows.PodStored)
        if row.is_finished:
            continue
        yield PodRow(
            name=row.name,
            revision=row.revision,
            node=row.node,
            is_ready=row.is_ready and not row.is_worker,
            is_worker=row.is_worker,
            is_terminating=row.is_terminating,
            restarts=row.restarts,
            pending=row.pending,
            last_exit=row.last_exit,
        )


def _children(reading: Reading, uid: str) -> Iterable[ChildRow]:
    for api_version, kind in CHILD_KINDS:
        for row in reading.owned(kind, uid):
            if isinstance(row, rows.ChildStored) and row.revision:
                yield ChildRow(kind, api_version, row.name, row.uid, row.revision, row.role, row.version)
    for row in reading.owned(HTTP_ROUTE, uid):
        if isinstance(row, route_rows.RouteStored) and row.revision:
            yield ChildRow(HTTP_ROUTE, ROUTE_API, row.name, row.uid, row.revision)


def _evaluations(reading: Reading, uid: str) -> Iterable[EvaluationRow]:
    for row in reading.owned("Job", uid):
        assert isinstance(row, rows.JobStored)
        pods = [pod for pod in reading.owned("Pod", row.uid) if isinstance(pod, rows.PodStored)]
        said = [pod.last_words for pod in pods if pod.last_words]
        pending = [pod.pending for pod in pods if pod.pending]
        fault = row.fault or (pending[0] if pending else "")
        yield EvaluationRow(row.name, row.uid, said[-1] if said else "", row.is_failed, fault)


def _monitors(reading: Reading, uid: str) -> Iterable[Ref]:
    for row in reading.owned("PodMonitor", uid):
        yield Ref(MONITOR_API, "PodMonitor", row.namespace, row.name, row.uid)


def _route(reading: Reading, kind: str, key: Key) -> RouteRow | None:
    row = reading.get(kind, key.namespace, key.name)
    if not isinstance(row, route_rows.RouteStored) or row.service != key.name:
        return None
    return row.ours


def _lent(reading: Reading, key: Key) -> Iterable[LentRow]:
    """Yield the routes of users that send to the Services of our roles, or hold weights of ours."""
    for kind in (HTTP_ROUTE, GRPC_ROUTE):
        for row in reading.find(kind, references.BY_LENT, f"{key.namespace}/{key.name}"):
            assert isinstance(row, route_rows.RouteStored)
            yield route_rows.lent(row, kind, key.name)


def _aims(reading: Reading, key: Key, uid: str) -> Iterable[tuple[str, str]]:
    for role in (STABLE, CANARY):
        row = reading.get("Service", key.namespace, role_service_name(key.name, role))
        if isinstance(row, rows.ChildStored) and row.owner == uid:
            yield role, row.selected


def _apex(reading: Reading, key: Key, uid: str) -> ApexRow | None:
    row = reading.get("Service", key.namespace, key.name)
    if not isinstance(row, rows.ChildStored) or row.owner != uid:
        return None
    return ApexRow(row.uid, row.selected)
