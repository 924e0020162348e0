"""The objects of one revision and of one service, as plain manifests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from modelops.api import names
from modelops.engines.base import Launch
from modelops.placement.devices import product_label
from modelops.placement.fit import Placement
from modelops.plan import Manifest

USER_ID = 10001
HTTP_PORT = 8000
METER_METRICS_PORT = 9400
MODEL_MOUNT = "/model"
SLACK = timedelta(seconds=25)
"""Between the end of a drain and SIGKILL."""
PAUSE = timedelta(seconds=15)
"""Between the loss of the endpoint and SIGTERM, for engines that face the callers themselves."""

HTTP: Manifest = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
"""Port of every Service to callers over HTTP."""
GRPC: Manifest = {
    "name": "grpc",
    "port": 8001,
    "targetPort": "grpc",
    "protocol": "TCP",
    "appProtocol": "kubernetes.io/h2c",
}
"""Port to callers over gRPC, of engines that speak it."""

_NAMES: Manifest = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}
"""Where pods look names up; the label is the same for CoreDNS."""

HUNG_SECONDS = 10
"""Between the last failed probe of an engine and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Images:
    """Which images the operator puts beside an engine."""

    operator: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where routes attach."""

    name: str
    namespace: str
    section: str | None = None
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The service that owns the children."""

    namespace: str
    name: str
    uid: str
    api_version: str = names.API_VERSION
    kind: str = "InferenceService"


@dataclass(frozen=True, slots=True)
class Revision:
    """What one revision's pods are made of."""

    owner: Owner
    hash: str
    version: str
    digest: str
    engine: str
    launch: Launch
    placement: Placement
    resource_name: str
    images: Images
    store: str
    """Folder of the model store on every node."""
    drain: timedelta
    node_selector: Mapping[str, str]
    tolerations: tuple[Manifest, ...] = ()
    zones: tuple[str, ...] = ()
    priority_class: str | None = None
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    resources: Manifest | None = None


def deployment(revision: Revision, *, replicas: int, role: str) -> Manifest:
    """Return the Deployment of one revision; the role stands in its own metadata only."""
    labels = _labels(revision)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **meta(revision.owner, _name(revision), labels),
            "labels": {**labels, names.ROLE: role},
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": _selector(revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": pod_template(revision),
        },
    }


def pod_template(revision: Revision) -> Manifest:
    """Return the pod: a wait for the bytes, the meter where the engine needs one, and the engine.

    Admitted under the `restricted` pod security level; no API token, no service links.
    """
    launch = revision.launch
    metered = launch.metered
    port = METER_METRICS_PORT if metered else launch.metrics_port or launch.port
    annotations = {
        **(revision.annotations or {}),
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }
    grace = int((revision.drain + SLACK + (timedelta(0) if metered else PAUSE)).total_seconds())
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": nobody(),
        "initContainers": [_wait(revision), *([_meter(revision)] if metered else [])],
        "containers": [engine_container(revision)],
        "volumes": _volumes(revision),
        "affinity": _affinity(revision),
    }
    if revision.node_selector:
        spec["nodeSelector"] = dict(revision.node_selector)
    if revision.tolerations:
        spec["tolerations"] = list(revision.tolerations)
    if revision.priority_class:
        spec["priorityClassName"] = revision.priority_class
    if revision.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in revision.images.pull_secrets]
    labels = {**(revision.labels or {}), **_labels(revision)}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def service(revision: Revision) -> Manifest:
    """Return the Service of one revision: the only thing a route points to."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(revision.owner, _name(revision), _labels(revision)),
        "spec": {
            "selector": _serving(revision),
            "ports": [
                HTTP,
                *([GRPC] if revision.launch.grpc_port else []),
            ],
        },
    }


def network_policy(owner: Owner, launches: Sequence[Launch] = ()) -> Manifest:
    """Return the policy of all pods of a service: callers may reach them, they reach nobody.

    The pods of a group reach each other, and look the name of their leader up.
    """
    more = {port for launch in launches for port in (launch.grpc_port, launch.metrics_port) if port}
    ports = (HTTP_PORT, METER_METRICS_PORT, *sorted(more))
    own = [{"podSelector": {"matchLabels": {names.SERVICE: owner.name}}}]
    among = own if any(launch.worker_args for launch in launches) else []
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(owner, owner.name, service_labels(owner)),
        "spec": {
            "podSelector": {"matchLabels": {names.SERVICE: owner.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": port} for port in ports]}, *([{"from": among}] if among else [])],
            "egress": [{"to": among}, _NAMES] if among else [],
        },
    }


def disruption_budget(revision: Revision) -> Manifest:
    """Return the budget of one revision: drains take its pods one by one."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(revision.owner, _name(revision), _labels(revision)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(revision)}},
    }


def volume(owner: Owner, digest: str, store: str) -> Manifest:
    """Return the PersistentVolume of one digest in one namespace.

    It has no node affinity, which could not be changed later, and no owner, since a cluster-scoped object
    cannot have a namespaced one: the sweep removes it.
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": names.volume_name(owner.namespace, digest),
            "labels": {
                **_managed(),
                names.DIGEST: names.digest_label(digest),
                "modelops.dev/namespace": owner.namespace,
            },
        },
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": owner.namespace,
                "name": names.claim_name(digest),
            },
            "hostPath": {"path": f"{store}/{names.store_folder(digest)}", "type": "DirectoryOrCreate"},
        },
    }


def claim(owner: Owner, digest: str) -> Manifest:
    """Return the claim that binds the digest's volume; every service of the namespace shares it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.claim_name(digest),
            "namespace": owner.namespace,
            "labels": {**_managed(), names.DIGEST: names.digest_label(digest)},
        },
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "volumeName": names.volume_name(owner.namespace, digest),
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


# --- containers --------------------------------------------------------------------------------------


def _wait(revision: Revision) -> Manifest:
    return {
        "name": "wait",
        "image": revision.images.operator,
        "imagePullPolicy": revision.images.pull_policy,
        "args": ["delivery", "wait", "--path", f"{MODEL_MOUNT}/files"],
        "securityContext": locked(),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True}],
    }


def _meter(revision: Revision) -> Manifest:
    """Return the meter as a sidecar that outlives the engine: it is stopped after the last container."""
    launch = revision.launch
    drain = int(revision.drain.total_seconds())
    return {
        "name": "meter",
        "image": revision.images.operator,
        "imagePullPolicy": revision.images.pull_policy,
        "restartPolicy": "Always",
        "args": [
            "meter",
            "--listen",
            f"0.0.0.0:{HTTP_PORT}",
            "--engine",
            f"http://127.0.0.1:{launch.port}",
            "--metrics-listen",
            f"0.0.0.0:{METER_METRICS_PORT}",
            "--ready-path",
            launch.ready_path,
            "--drain-timeout",
            str(drain),
        ],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METER_METRICS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": METER_METRICS_PORT},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": METER_METRICS_PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "securityContext": locked(),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def engine_container(revision: Revision) -> Manifest:
    """Return the container that runs the model."""
    launch = revision.launch
    resources: Manifest = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    for kind, amounts in (revision.resources or {}).items():
        resources[kind] = {**resources.get(kind, {}), **amounts}
    if revision.placement.gpus:
        limits = resources.setdefault("limits", {})
        limits[revision.resource_name] = str(revision.placement.gpus)
    container: Manifest = {
        "name": "engine",
        "image": launch.image,
        "imagePullPolicy": revision.images.pull_policy,
        "command": list(launch.command),
        "args": list(launch.args),
        "env": [{"name": name, "value": value} for name, value in sorted(launch.env.items())],
        "securityContext": locked(),
        "resources": resources,
        "terminationMessagePolicy": "FallbackToLogsOnError" if launch.tells else "File",
        "volumeMounts": [
            {"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True},
            *([_model_at(launch.model_at)] if launch.model_at else []),
            {"name": "tmp", "mountPath": "/tmp"},
            *({"name": "scratch", "mountPath": path, "subPath": _sub_path(path)} for path in launch.writable),
            *([{"name": "shm", "mountPath": "/dev/shm"}] if launch.shm_bytes else []),
        ],
    }
    if launch.metered:
        container |= _behind_the_meter(launch)
    else:
        container |= _self_served(launch)
    return container


def _model_at(path: str) -> Manifest:
    """Return the files alone at *path*.  They are there by then: kubelet looks when the engine starts."""
    return {"name": "model", "mountPath": path, "subPath": "files", "readOnly": True}


def _behind_the_meter(launch: Launch) -> Manifest:
    """Return what an engine on the loopback address needs: probes through the meter, and its drain."""
    return {
        **_probes(HTTP_PORT, launch),
        "lifecycle": {"preStop": {"httpGet": {"path": "/wait-drained", "port": METER_METRICS_PORT}}},
    }


def _self_served(launch: Launch) -> Manifest:
    """Return what an engine that faces the callers itself needs: its port, probes and a pause before TERM."""
    ready = {"port": launch.port, "path": launch.ready_path}
    ports = {"http": launch.port, "grpc": launch.grpc_port, "metrics": launch.metrics_port}
    period = launch.ready_period_seconds
    return {
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items() if port
        ],
        **_probes(launch.port, launch),
        "readinessProbe": {"httpGet": ready, "periodSeconds": period, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": int(PAUSE.total_seconds())}}},
    }


def _probes(port: int, launch: Launch) -> Manifest:
    """Return how long the engine may load, and when it hangs.

    preStop runs before such a restart too, and the streams of an engine that hangs never end: without
    a grace of its own the restart would wait for the whole drain.
    """
    get = {"httpGet": {"port": port, "path": launch.health_path}}
    period = launch.startup_period_seconds
    return {
        "startupProbe": {
            **get,
            "periodSeconds": period,
            "timeoutSeconds": launch.startup_timeout_seconds,
            "failureThreshold": max(3, -(-launch.startup_seconds // period)),
            "terminationGracePeriodSeconds": HUNG_SECONDS,
        },
        "livenessProbe": {
            **get,
            "periodSeconds": launch.health_period_seconds,
            "timeoutSeconds": launch.health_timeout_seconds,
            "failureThreshold": 6,
            "terminationGracePeriodSeconds": HUNG_SECONDS,
        },
    }


def _volumes(revision: Revision) -> list[Manifest]:
    launch = revision.launch
    volumes: list[Manifest] = [
        {
            "name": "model",
            "persistentVolumeClaim": {"claimName": names.claim_name(revision.digest), "readOnly": True},
        },
        {"name": "tmp", "emptyDir": {}},
    ]
    if launch.writable:
        volumes.append({"name": "scratch", "emptyDir": {}})
    if launch.shm_bytes:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(launch.shm_bytes)}})
    return volumes


def _affinity(revision: Revision) -> Manifest:
    """Require the product that the plan fits, prefer its node: autoscalers and rescheduling keep working."""
    required: list[Manifest] = []
    if revision.placement.product:
        label = product_label(revision.resource_name)
        required.append({"key": label, "operator": "In", "values": [revision.placement.product]})
    if revision.zones:
        required.append(
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": list(revision.zones)}
        )
    node: Manifest = {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [
                        {
                            "key": "kubernetes.io/hostname",
                            "operator": "In",
                            "values": sorted({revision.placement.node, *revision.placement.members}),
                        }
                    ]
                },
            }
        ]
    }
    if required:
        node["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [{"matchExpressions": required}]
        }
    return {"nodeAffinity": node}


def nobody() -> Manifest:
    """Return the security context of a pod that runs without root."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def locked() -> Manifest:
    """Return the security context of a container that may do nothing."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


# --- metadata ----------------------------------------------------------------------------------------


def _name(revision: Revision) -> str:
    return names.revision_name(revision.owner.name, revision.hash)


def _selector(revision: Revision) -> dict[str, str]:
    return {names.SERVICE: revision.owner.name, names.REVISION: revision.hash}


def _serving(revision: Revision) -> dict[str, str]:
    """Return the labels of the pods that answer requests: of a group only its leader does."""
    leads = {names.GROUP_INDEX: "0"} if revision.placement.nodes > 1 else {}
    return {**_selector(revision), **leads}


def _managed() -> dict[str, str]:
    return names.managed_labels()


def service_labels(owner: Owner) -> dict[str, str]:
    """Return the labels of what belongs to a service as a whole."""
    return {**_managed(), "app.kubernetes.io/instance": owner.name, names.SERVICE: owner.name}


def _labels(revision: Revision) -> dict[str, str]:
    return {
        **service_labels(revision.owner),
        "app.kubernetes.io/name": revision.engine,
        names.REVISION: revision.hash,
        names.VERSION_LABEL: revision.version,
        names.ENGINE: revision.engine,
        names.DIGEST: names.digest_label(revision.digest),
    }


def meta(owner: Owner, name: str, labels: Mapping[str, str]) -> Manifest:
    """Return the metadata of a child; GitOps tools neither report nor prune it."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": dict(labels),
        "annotations": {
            "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        },
        "ownerReferences": [names.owner_reference(owner)],
    }


def _sub_path(path: str) -> str:
    return path.strip("/").replace("/", "-")
