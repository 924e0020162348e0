"""The Job that pins a version to its bytes: what it is asked, and what its last words mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelops.api import names
from modelops.artifacts.canonical import canonical
from modelops.plan import Manifest, Reason

TOKEN_MOUNT = "/var/run/modelops/token"
LONGEST_MESSAGE_BYTES = 4096
DEADLINE_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the Job found: the version is this commit and these bytes."""

    revision: str
    artifact_digest: str
    files: int
    bytes: int
    facts: Mapping[str, Any]
    """Fields of ``status.resolved`` in camelCase."""


def job(
    *,
    namespace: str,
    name: str,
    uid: str,
    spec_hash: str,
    source: Mapping[str, Any],
    secret: str | None,
    image: str,
    pull_policy: str,
) -> Manifest:
    """Return the Job: no API token, restricted, the hub's token only as a file in its own pod."""
    job_name = names.resolve_job_name(name, spec_hash)
    env = [
        {"name": "MODELOPS_SOURCE", "value": canonical(dict(source)).decode()},
        {"name": "HOME", "value": "/tmp"},
    ]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if secret is not None:
        env.append({"name": "HF_TOKEN_PATH", "value": f"{TOKEN_MOUNT}/token"})
        mounts.append({"name": "token", "mountPath": TOKEN_MOUNT, "readOnly": True})
        items = [{"key": "token", "path": "token"}]
        volumes.append({"name": "token", "secret": {"secretName": secret, "items": items, "defaultMode": 0o440}})
    container = {
        "name": "resolve",
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": ["delivery", "resolve"],
        "env": env,
        "volumeMounts": mounts,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
    }
    labels = names.managed_labels(**{names.VERSION_LABEL: name, "app.kubernetes.io/component": "resolve"})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "ModelVersion",
                    "name": name,
                    "uid": uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 3,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "runAsGroup": 10001,
                        "fsGroup": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": volumes,
                },
            },
        },
    }


def read(message: str) -> Resolved | Reason | None:
    """Return what the Job's termination message says; None: nothing that can be trusted.

    The message is untrusted: anything oversized, cut, malformed or of an unknown kind is no answer.
    """
    if not message or len(message.encode()) > LONGEST_MESSAGE_BYTES:
        return None
    try:
        said = json.loads(message)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("v") != 1:
        return None
    try:
        return _parse(said)
    except (KeyError, TypeError, ValueError):
        return None


def _parse(said: Mapping[str, Any]) -> Resolved | Reason | None:
    match said.get("verdict"):
        case "Refused":
            reason = said["reason"]
            return Reason(_text(reason["code"], 63), _text(reason["message"], 1024))
        case "Resolved":
            digest = _text(said["artifactDigest"], 71)
            names.store_folder(digest)
            facts = said["facts"]
            if not isinstance(facts, dict):
                return None
            revision = _text(said["revision"], 128)
            return Resolved(revision, digest, int(said["files"]), int(said["bytes"]), facts)
        case _:
            return None


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ValueError(f"wanted a printable text of 1 to {longest} letters")
    return value
