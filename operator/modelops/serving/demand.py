"""What a service asks of the placement and of its engine, from its spec and its version's facts."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from modelops.api.policy import Capacity, Policy, Provider, YourRoute
from modelops.api.service import ServiceSpec
from modelops.engines.base import Ask, Compute, Engine, Facts
from modelops.placement.demand import Demand, Sharing
from modelops.placement.fit import Placement
from modelops.placement.inventory import Inventory
from modelops.plan import Reason
from modelops.rollouts.state import Revision
from modelops.serving import learning, manifests
from modelops.serving.manifests import Gateway, Owner
from modelops.serving.snapshot import Snapshot, VersionRow

DRAIN = timedelta(minutes=10)


def facts(version: VersionRow) -> Facts:
    """Return the version's facts as engines read them."""
    return Facts.read(version.version.name, version.resolved)


def ask(seen: Snapshot, version: VersionRow, engine: Engine) -> Ask:
    """Return what the user wants of the engine; the served name is the model's, equal in all versions."""
    spec = seen.service.spec
    wanted = spec.engine
    custom = wanted.custom if wanted else None
    image = (wanted.image if wanted else None) or seen.defaults.engine_images.get(engine.name)
    command = tuple(custom.command or ()) if custom else seen.defaults.engine_commands.get(engine.name, ())
    extra = tuple(custom.args or ()) if custom else tuple((wanted.extra_args if wanted else None) or ())
    return Ask(
        served_name=version.version.spec.model_ref,
        context_tokens=wanted.context_tokens if wanted else None,
        max_concurrency=wanted.max_concurrency if wanted else None,
        gpus=(spec.accelerator.gpus if spec.accelerator else None) or 1,
        stages=(spec.accelerator.nodes if spec.accelerator else None) or 1,
        image=image,
        command=command,
        extra_args=extra,
        env={item.name: item.value or "" for item in ((wanted.env if wanted else None) or ())},
        port=custom.port if custom else None,
        health_path=custom.health_path if custom else None,
        drain=drain(seen.policy),
    )


def drain(policy: Policy | None) -> timedelta:
    """Return how long open streams may go on when a pod ends."""
    return policy.drain_timeout if policy else DRAIN


def demand(seen: Snapshot, version: VersionRow, engine: Engine) -> Demand | Reason:
    """Return what the placement must find, or why the spec cannot be placed at all."""
    spec = seen.service.spec
    accelerator = spec.accelerator
    where = spec.placement
    try:
        least = accelerator.min_memory_bytes if accelerator else None
    except ValueError as error:
        return Reason("Malformed", f"{seen.name}: spec.accelerator.minMemory: {error}; correct it")
    on_cpus = engine.computes_on is Compute.CPUS or (
        engine.computes_on is Compute.EITHER and accelerator is None
    )
    unused = _unused(seen, engine) if on_cpus else None
    if unused:
        return unused
    return Demand(
        service=seen.name,
        facts=facts(version),
        engine=engine,
        ask=ask(seen, version, engine),
        count=accelerator.gpus if accelerator else None,
        products=tuple((accelerator.products if accelerator else None) or ()),
        min_memory_bytes=least,
        node_selector=dict((where.node_selector if where else None) or {}),
        tolerations=tolerations(spec),
        zones=tuple((where.zones if where else None) or ()),
        resource_name=(accelerator.resource_name if accelerator else None) or "",
        partition=(accelerator.partition if accelerator else None) or "",
        sharing=Sharing(accelerator.sharing) if accelerator and accelerator.sharing else None,
        replicas=replicas(spec),
        cpu_fallback=bool(accelerator and accelerator.cpu_fallback),
        nodes=(accelerator.nodes if accelerator else None) or 1,
        corrections=learning.corrections(seen, version),
        on_cpus=on_cpus,
    )


def _unused(seen: Snapshot, engine: Engine) -> Reason | None:
    """Refuse an accelerator that the engine would not use; cpuFallback says what it does anyway."""
    asked = seen.service.spec.accelerator
    names = asked.to_wire().keys() - {"cpuFallback"} if asked else set()
    if not names:
        return None
    return Reason(
        "AcceleratorUnused",
        f"{seen.name}: {engine.name} computes on CPUs, found accelerator.{min(names)}; leave accelerator out",
    )


def room(seen: Snapshot, stable: manifests.Revision | None) -> Inventory:
    """Return the cluster as the candidate finds it: with capacity Recreate stable's GPUs are free by then."""
    recreates = seen.policy is not None and seen.policy.capacity is Capacity.RECREATE
    if not recreates or stable is None or not stable.placement.gpus:
        return seen.inventory
    inventory, each = seen.inventory, {stable.resource_name: -stable.placement.gpus}
    for pod in seen.pods:
        if pod.revision == stable.hash and inventory.node(pod.node) is not None:
            inventory = inventory.taking(pod.node, each)
    return inventory


def record(
    seen: Snapshot,
    version: VersionRow,
    engine: Engine,
    place: Placement,
    revision: Revision,
    owner: Owner,
) -> manifests.Revision:
    """Return everything that the revision's pods are made of."""
    spec = seen.service.spec
    where, template = spec.placement, spec.pod_template
    resources = template.resources.to_wire() if template and template.resources else None
    return manifests.Revision(
        owner=owner,
        hash=revision.hash,
        version=revision.version,
        digest=revision.digest,
        engine=engine.name,
        launch=engine.launch(facts(version), place.fill(ask(seen, version, engine))),
        placement=place,
        resource_name=place.resource,
        images=seen.defaults.images,
        store=seen.defaults.store,
        drain=drain(seen.policy),
        node_selector=dict((where.node_selector if where else None) or {}),
        tolerations=tolerations(spec),
        zones=tuple((where.zones if where else None) or ()),
        priority_class=where.priority_class_name if where else None,
        labels=dict((template.labels if template else None) or {}),
        annotations=dict((template.annotations if template else None) or {}),
        resources=resources,
    )


def tolerations(spec: ServiceSpec) -> tuple[dict[str, Any], ...]:
    """Return the tolerations as a pod writes them."""
    where = spec.placement
    return tuple(item.to_wire() for item in ((where.tolerations if where else None) or ()))


class Way(StrEnum):
    """What sends requests to the versions."""

    PODS = "Pods"
    """One Service over the pods of all: their numbers are the shares."""
    OWN = "Own"
    """Routes that the operator makes."""
    YOURS = "Yours"
    """A route of the user's, of which weights are changed."""


def way(seen: Snapshot) -> Way:
    """Return what is to send requests."""
    if your_route(seen) is not None:
        return Way.YOURS
    return Way.PODS if gateway(seen) is None else Way.OWN


def by_pods(seen: Snapshot) -> bool:
    """Return whether numbers of pods are the shares."""
    return way(seen) is Way.PODS


def your_route(seen: Snapshot) -> YourRoute | None:
    """Return the route of the user's that the policy names.

    While the policy is missing or malformed it is the one that was used last: what serves stays as it is.
    """
    if seen.policy is not None:
        return seen.policy.your_route
    return next((YourRoute(by["kind"], by["name"]) for by in _used(seen) if by.get("yours")), None)


def _used(seen: Snapshot) -> list[Mapping[str, Any]]:
    """Return what sent requests last, where the policy that says it is away."""
    is_run = bool(seen.status.get("candidate"))
    is_away = seen.policy is None and (seen.policy_fault is not None or is_run)
    traffic = (seen.status.get("rollout") or {}).get("traffic") or {}
    return list(traffic.get("by") or ()) if is_away else []


def gateway(seen: Snapshot) -> Gateway | None:
    """Return where our routes attach; None: nowhere."""
    if seen.policy is not None and seen.policy.provider is Provider.REPLICAS:
        return None
    if any(by.get("kind") == "Service" for by in _used(seen)):
        return None
    wanted = seen.service.spec.traffic.gateway_ref if seen.service.spec.traffic else None
    default = seen.defaults.gateway
    if wanted is None:
        return default
    return Gateway(
        wanted.name,
        wanted.namespace or seen.namespace,
        wanted.section_name,
        default.domain if default else "",
    )


def hostnames(seen: Snapshot, to: Gateway) -> tuple[str, ...]:
    """Return the names under which the service answers."""
    traffic = seen.service.spec.traffic
    if traffic and traffic.hostnames:
        return tuple(traffic.hostnames)
    return (f"{seen.name}.{seen.namespace}.{to.domain}",) if to.domain else ()


def replicas(spec: ServiceSpec) -> int:
    """Return how many ready pods the service should have as a whole."""
    return spec.scaling.min_replicas if spec.scaling and spec.scaling.min_replicas is not None else 1
