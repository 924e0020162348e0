"""What carries the pods of a revision: a Deployment, or groups of pods on several nodes by LeaderWorkerSet.

Source: kubernetes-sigs/lws, API leaderworkerset.x-k8s.io/v1 of 0.6; research/engines.md 2.6.
"""

from modelops.plan import Manifest
from modelops.serving.manifests import Revision, deployment, engine_container, pod_template

GROUP_API = "leaderworkerset.x-k8s.io/v1"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe", "ports", "lifecycle")
"""What belongs to the pod that answers requests alone."""


def workload(revision: Revision, *, replicas: int, role: str) -> Manifest:
    """Return what makes the pods; the role stands in its own metadata only."""
    alone = deployment(revision, replicas=replicas, role=role)
    if revision.placement.nodes == 1:
        return alone
    leader = pod_template(revision)
    return {
        "apiVersion": GROUP_API,
        "kind": "LeaderWorkerSet",
        "metadata": alone["metadata"],
        "spec": {
            "replicas": replicas,
            # One Service for all groups would bear the name of ours.
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            # Workers look for their leader before it is ready.
            "startupPolicy": "LeaderCreated",
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "leaderWorkerTemplate": {
                "size": revision.placement.nodes,
                # A stage that is lost takes the whole engine with it.
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": _worker(revision, leader),
            },
        },
    }


def _worker(revision: Revision, leader: Manifest) -> Manifest:
    """Return the pod of another stage: it opens no port, is asked nothing, and outlives its leader."""
    container = {key: value for key, value in engine_container(revision).items() if key not in PROBES}
    container["args"] = list(revision.launch.worker_args)
    if revision.launch.worker_pre_stop:
        container["lifecycle"] = {"preStop": {"exec": {"command": list(revision.launch.worker_pre_stop)}}}
    meta = leader["metadata"]
    annotations = {k: v for k, v in meta["annotations"].items() if not k.startswith("prometheus.io/")}
    return {
        "metadata": {"labels": dict(meta["labels"]), "annotations": annotations},
        "spec": {**leader["spec"], "containers": [container]},
    }
