"""The Job that pins a version to its bytes: what it is asked, and what its last words mean."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelops.api import names
from modelops.api import version as api
from modelops.api.model import Format
from modelops.artifacts.canonical import canonical
from modelops.plan import Manifest, Reason

TOKEN_MOUNT = "/var/run/modelops/token"
LONGEST_MESSAGE_BYTES = 4096
DEADLINE_SECONDS = 1800
_CODE = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the Job found: the version is this commit and these bytes."""

    revision: str
    artifact_digest: str
    files: int
    bytes: int
    facts: Mapping[str, Any]
    """Fields of ``status.resolved`` in camelCase, and no others."""


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
    pull_secrets: Sequence[str] = (),
    allowed_hosts: Sequence[str] = (),
) -> Manifest:
    """Return the Job: no API token, restricted, the hub's token only as a file in its own pod.

    *allowed_hosts* may have private addresses: a hub that an administrator listed may send on to another.
    """
    job_name = names.resolve_job_name(name, spec_hash)
    env = [
        {"name": "MODELOPS_SOURCE", "value": canonical(dict(source)).decode()},
        {"name": "HOME", "value": "/tmp"},
    ]
    if allowed_hosts:
        env.append({"name": "MODELOPS_ALLOWED_HOSTS", "value": ",".join(sorted(allowed_hosts))})
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if secret is not None:
        env.append({"name": "HF_TOKEN_PATH", "value": f"{TOKEN_MOUNT}/token"})
        mounts.append({"name": "token", "mountPath": TOKEN_MOUNT, "readOnly": True})
        items = [{"key": "token", "path": "token"}]
        volumes.append(
            {"name": "token", "secret": {"secretName": secret, "items": items, "defaultMode": 0o440}}
        )
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
                    **({"imagePullSecrets": [{"name": one} for one in pull_secrets]} if pull_secrets else {}),
                },
            },
        },
    }


def read(message: str) -> Resolved | Reason | None:
    """Return what the Job's termination message says; None: nothing that can be trusted.

    The message is untrusted: anything oversized, cut, malformed or of an unknown kind is no answer.
    """
    try:
        if not 0 < len(message.encode()) <= LONGEST_MESSAGE_BYTES:
            return None
        said = json.loads(message)
        if not isinstance(said, dict) or said.get("v") != 1:
            return None
        canonical(said)  # no floats, no numbers that the server cannot store, no broken text
        return _parse(said)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _parse(said: Mapping[str, Any]) -> Resolved | Reason | None:
    match said.get("verdict"):
        case "Refused":
            reason = said["reason"]
            return Reason(_matching(_CODE, reason["code"]), _text(reason["message"], 1024))
        case "Resolved":
            return Resolved(
                _matching(_COMMIT, said["revision"]),
                _matching(_DIGEST, said["artifactDigest"]),
                _count(said["files"]),
                _count(said["bytes"]),
                _facts(said["facts"]),
            )
        case _:
            return None


def _facts(said: Any) -> Mapping[str, Any]:
    """Return the facts in the shape of ``status.resolved``; fields that it does not have are left out.

    Raises:
        ValueError: a field has another type, or is longer than the status takes.
    """
    if not isinstance(said, dict):
        raise ValueError("wanted an object")
    known = {str(item) for item in Format}
    other = "format" in said and said["format"] not in known
    facts = api.Resolved.model_validate({**said, "format": Format.OTHER} if other else dict(said)).to_wire()
    for value in (*facts.values(), *(facts.get("provenance") or {}).values()):
        if isinstance(value, str):
            _text(value, 2048)
    return {key: value for key, value in facts.items() if value is not None}


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"wanted {pattern.pattern}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("wanted a whole number from 0 on")
    return value


def _text(value: Any, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ValueError(f"wanted a printable text of 1 to {longest} letters")
    return value
