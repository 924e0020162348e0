"""Know where each kind lives on the API server, without asking it."""

from dataclasses import dataclass

from modelops.api.names import API_VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as the API server addresses it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def root(self) -> str:
        """Return the path of its group and version: ``/api/v1`` or ``/apis/apps/v1``."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"


_ADMISSION = "admissionregistration.k8s.io/v1"
_GATEWAY = "gateway.networking.k8s.io/v1"

RESOURCES: tuple[Resource, ...] = (
    Resource(API_VERSION, "Model", "models"),
    Resource(API_VERSION, "ModelVersion", "modelversions"),
    Resource(API_VERSION, "InferenceService", "inferenceservices"),
    Resource(API_VERSION, "RolloutPolicy", "rolloutpolicies"),
    Resource(API_VERSION, "ModelApproval", "modelapprovals"),
    Resource(API_VERSION, "ModelNode", "modelnodes", namespaced=False),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "Event", "events"),
    Resource("v1", "Namespace", "namespaces", namespaced=False),
    Resource("v1", "Node", "nodes", namespaced=False),
    Resource("v1", "PersistentVolume", "persistentvolumes", namespaced=False),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "Service", "services"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("batch/v1", "Job", "jobs"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets"),
    Resource("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource(_GATEWAY, "Gateway", "gateways"),
    Resource(_GATEWAY, "GatewayClass", "gatewayclasses", namespaced=False),
    Resource(_GATEWAY, "HTTPRoute", "httproutes"),
    Resource(_GATEWAY, "GRPCRoute", "grpcroutes"),
    Resource(_ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False),
    Resource(
        _ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False
    ),
    Resource(_ADMISSION, "MutatingAdmissionPolicy", "mutatingadmissionpolicies", namespaced=False),
    Resource(
        _ADMISSION, "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", namespaced=False
    ),
)

_BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES}


def resource_of(api_version: str, kind: str) -> Resource:
    """Return where *kind* lives.

    Raises:
        KeyError: the table does not hold it: add a line.
    """
    return _BY_KIND[api_version, kind]


def register(resource: Resource) -> None:
    """Make a kind of somebody else known, such as the workflows that a user refers to."""
    _BY_KIND[resource.api_version, resource.kind] = resource
