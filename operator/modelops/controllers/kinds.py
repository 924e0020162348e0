"""The only list of what the operator watches, plans and does beside it."""

from collections.abc import Iterable

from modelops.api import names
from modelops.api.names import API_VERSION
from modelops.clients.kinds import resource_of
from modelops.controllers import own_rows, references, route_rows, rows
from modelops.controllers.context import BY_DIGEST, BY_VERSION
from modelops.controllers.figures import Figures
from modelops.controllers.gate import GateWatch, load_keys
from modelops.controllers.measure import Measuring
from modelops.controllers.pools import Pools
from modelops.controllers.registrations import Approvals, Models, Policies, Versions
from modelops.controllers.route_sweep import RouteSweep
from modelops.controllers.seam import Drifted, Keys, Kinds, Parts, Project, Shown, Watched, has_not_drifted
from modelops.controllers.services import Services
from modelops.controllers.store import Index, OwnRow
from modelops.controllers.volumes import VolumeSweep
from modelops.serving.groups import GROUP_API
from modelops.serving.splitters import GRPC_ROUTE, HTTP_ROUTE, ROUTE_API

MANAGED = f"{names.MANAGED_BY}={names.MANAGED_BY_VALUE}"
Indexes = tuple[tuple[str, Index], ...]


def assemble(parts: Parts) -> Kinds:
    """Return every kind, built from *parts*."""
    keys = load_keys(parts.settings.gate.hmac_key_file)
    services = Services(parts, keys)
    return Kinds(
        roots=(
            Models(parts, keys),
            Versions(parts, keys),
            Approvals(parts, keys),
            Policies(parts),
            services,
        ),
        watched=(*_own(), *_children(), *_cluster()),
        background=(
            ("gate", GateWatch(parts).run),
            ("measuring", Measuring(parts).run),
            ("pools", Pools(parts).run),
            ("volumes", VolumeSweep(parts).run),
            ("routes", RouteSweep(parts).run),
        ),
        figures=(Figures(parts.store, parts.observations, services.stock.inventory),),
        waiting=references.waiting,
    )


def _own() -> Iterable[Watched]:
    yield _mine("Model", OwnRow.of, references.of_model)
    yield _mine(
        "ModelVersion",
        own_rows.version,
        references.of_version,
        (references.BY_MODEL, references.versions_by_model),
        (BY_DIGEST, references.versions_by_digest),
    )
    yield _mine(
        "ModelApproval",
        own_rows.approval,
        references.of_approval,
        (BY_VERSION, references.approvals_by_version),
    )
    yield _mine(
        "RolloutPolicy",
        own_rows.policy,
        references.of_policy,
        (references.DEFAULT, references.default_policies),
    )
    yield _mine(
        "InferenceService",
        own_rows.service,
        references.of_service,
        (BY_VERSION, references.services_by_version),
        (BY_DIGEST, references.services_by_digest),
        (references.BY_ALIAS, references.services_by_alias),
        (references.BY_POLICY, references.services_by_policy),
        (references.WAITING, references.services_waiting),
        (references.RUNNING, references.services_running),
        (references.UNMEASURED, references.services_unmeasured),
        shown=references.shown_of_service,
    )


def _children() -> Iterable[Watched]:
    """What we make, by our mark."""
    yield _ours("apps/v1", "Deployment", rows.child, drifted=rows.child_drifted)
    yield _ours(
        GROUP_API,
        "LeaderWorkerSet",
        rows.child,
        drifted=rows.child_drifted,
        is_optional=True,
        may_be_denied=True,
    )
    yield _ours("v1", "Service", rows.child, drifted=rows.child_drifted)
    yield _ours("policy/v1", "PodDisruptionBudget", rows.child)
    yield _ours("networking.k8s.io/v1", "NetworkPolicy", rows.child)
    yield _ours(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        rows.child,
        is_optional=True,
        may_be_denied=True,
        is_extra=True,
    )
    yield _ours("batch/v1", "Job", rows.job, references.of_job)
    yield _ours("v1", "PersistentVolume", rows.volume, references.of_volume, may_be_denied=True)
    yield _ours("v1", "PersistentVolumeClaim", rows.claim, references.of_claim)


def _cluster() -> Iterable[Watched]:
    """What others make: where pods can run, and how they do."""
    yield Watched(
        resource_of("v1", "Pod"),
        rows.pod,
        references.of_pod,
        indexes=((references.BY_SERVICE, references.pods_by_service),),
        room=references.room_of_pod,
    )
    yield Watched(
        resource_of("v1", "Node"),
        rows.node,
        references.of_node,
        may_be_denied=True,
        room=references.room_of_node,
    )
    for kind in (HTTP_ROUTE, GRPC_ROUTE):  # ours, and those of users that name our Services
        yield Watched(
            resource_of(ROUTE_API, kind),
            route_rows.route,
            references.of_route,
            is_optional=True,
            indexes=((references.BY_LENT, route_rows.services_lent),),
            drifted=route_rows.route_drifted,
        )
    yield Watched(
        resource_of(ROUTE_API, "Gateway"), route_rows.gateway, references.of_gateway, is_optional=True
    )
    yield Watched(
        resource_of(ROUTE_API, "GatewayClass"),
        route_rows.gateway_class,
        references.of_gateway,
        is_optional=True,
        may_be_denied=True,
    )
    yield Watched(resource_of("v1", "Namespace"), rows.namespace, references.of_namespace, is_named=True)
    yield Watched(
        resource_of(API_VERSION, "ModelNode"),
        rows.model_node,
        references.of_model_node,
        may_be_denied=True,
        indexes=((BY_DIGEST, references.nodes_by_digest),),
        room=references.room_of_model_node,
    )


def _mine(
    kind: str, project: Project, keys: Keys, *indexes: tuple[str, Index], shown: Shown | None = None
) -> Watched:
    return Watched(resource_of(API_VERSION, kind), project, keys, is_own=True, indexes=indexes, shown=shown)


def _ours(
    api_version: str,
    kind: str,
    project: Project,
    keys: Keys = references.of_child,
    *,
    drifted: Drifted = has_not_drifted,
    is_optional: bool = False,
    may_be_denied: bool = False,
    is_extra: bool = False,
) -> Watched:
    return Watched(
        resource_of(api_version, kind),
        project,
        keys,
        labels=MANAGED,
        drifted=drifted,
        is_optional=is_optional,
        may_be_denied=may_be_denied,
        is_extra=is_extra,
    )
