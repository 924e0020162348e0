"""What a policy asks of the gateway, and what its GatewayClass says that it cannot do."""

from collections.abc import Iterator

from modelops.api.policy import PinnedBy, Policy
from modelops.plan import Reason
from modelops.rollouts.traffic import FULL
from modelops.serving import demand
from modelops.serving.demand import Way
from modelops.serving.snapshot import Snapshot

MIRROR = "HTTPRouteRequestMirror"
PERCENT_MIRROR = "HTTPRouteRequestPercentageMirror"
PERSISTENCE = ("HTTPRouteSessionPersistenceCookie", "HTTPRouteSessionPersistence")
"""Names of session persistence in supportedFeatures; it is experimental in the Gateway API."""


def unsupported(seen: Snapshot) -> Reason | None:
    """Return what the policy asks for that the gateway cannot do; None: nothing."""
    policy = seen.policy
    if policy is None or demand.way(seen) is Way.YOURS:
        return None  # of a route of the user's the policy may ask for weights alone
    if demand.way(seen) is Way.PODS:
        return next((_no_gateway(seen, what) for what in _shapes(policy)), None)
    return _no_mirror(seen, policy) or _no_persistence(seen, policy)


def _shapes(policy: Policy) -> Iterator[str]:
    if policy.mirror is not None:
        yield "mirrored requests"
    if policy.affinity is not None:
        yield "session affinity"
    if policy.matches:
        yield "matched requests"


def _no_gateway(seen: Snapshot, what: str) -> Reason:
    return Reason(
        "Unsupported",
        f"{seen.name}: needs a gateway for {what}, found none; set one or leave it out of the policy",
    )


def _no_mirror(seen: Snapshot, policy: Policy) -> Reason | None:
    """Refuse copies where the class lists features, and not this one; a class may list none at all."""
    if policy.mirror is None or seen.features is None:
        return None
    feature = MIRROR if policy.mirror.percent == FULL else PERCENT_MIRROR
    if feature in seen.features:
        return None
    return Reason(
        "Unsupported",
        f"{seen.name}: needs {feature} for mirrored requests, found it not listed by the GatewayClass; "
        "use another gateway or leave it out of the policy",
    )


def _no_persistence(seen: Snapshot, policy: Policy) -> Reason | None:
    """Refuse session persistence unless it is listed: it is experimental, so silence is a no."""
    if policy.affinity is None or policy.affinity.by is not PinnedBy.GATEWAY:
        return None
    if seen.features is not None and seen.features & set(PERSISTENCE):
        return None
    return Reason(
        "Unsupported",
        f"{seen.name}: needs {PERSISTENCE[0]} for session affinity, found it not listed by the GatewayClass; "
        "set canary.sessionAffinity.by to Cookie, use another gateway or leave it out of the policy",
    )
