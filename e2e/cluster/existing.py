"""Use a cluster that the user names.  Nothing in it is installed or removed: it is only looked at.

The environment says what cannot be found out:

    MODELOPS_CONTEXT       the kubeconfig context; its user must be an administrator
    MODELOPS_REGISTRY      where this machine pushes images, host:port or a prefix
    MODELOPS_IMAGE_PREFIX  what pods name instead (the same)
    MODELOPS_GATEWAY       host:port of the Gateway modelops-gateway/modelops, as this machine reaches it
    MODELOPS_PROMETHEUS    URL of Prometheus, as this machine reaches it
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import cache
from e2e.cluster.addons import GATEWAY
from e2e.cluster.faults import Anywhere, Faults
from e2e.cluster.interface import LAYERS, Say, with_needed
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.progress import run, stage

_CONTEXT = "MODELOPS_CONTEXT"


def is_named() -> bool:
    """Tell whether the user named a context."""
    return bool(os.environ.get(_CONTEXT))


class Existing:
    """A cluster that was there before and stays."""

    def __init__(self, name: str, environment: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self._environment = environment
        self._state = cache.root() / "state" / f"existing-{name}"

    def up(self, layers: Collection[str] = LAYERS, say: Say = print, *, background: bool = False) -> None:
        wanted = with_needed(layers)
        context = self._given(_CONTEXT)
        self._state.mkdir(parents=True, exist_ok=True)
        with stage(f"cluster {self.name}: context {context}"):
            run([_program(), "--context", context, "get", "--raw=/readyz"])
            config = run([_program(), "config", "view", "--minify", "--flatten", "--context", context])
            self.kubeconfig.touch(mode=0o600)
            self.kubeconfig.write_text(config)
        if "nodes" in wanted and not self._gpu_nodes():
            raise RuntimeError(
                f"context {context}: needs a node with nvidia.com/gpu, found none; install a device plugin"
            )
        if "addons" in wanted:
            self.kubectl("get", "gateway", GATEWAY[1], "-n", GATEWAY[0])
            self.gateway_address()
            self.prometheus_url()
        say(f"cluster {self.name}: context {context} has what is needed")

    def down(self) -> None:
        if self._state.exists():
            shutil.rmtree(self._state)

    def status(self) -> dict[str, str]:
        return {"context": self._given(_CONTEXT), "nodes with GPUs": ", ".join(self._gpu_nodes())}

    def restart_node(self, node: str) -> None:
        raise RuntimeError(
            f"node {node}: must be a node that this program started, found the user's; use provider native"
        )

    @property
    def kubeconfig(self) -> Path:
        return self._state / "admin.kubeconfig"

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        return impersonating(self.kubeconfig, user, groups)

    @cached_property
    def kubectl(self) -> Kubectl:
        return Kubectl(Path(_program()), self.kubeconfig, self._state / "kube-cache")

    @property
    def registry(self) -> str:
        return self._given("MODELOPS_REGISTRY")

    @property
    def image_prefix(self) -> str:
        return self._environment.get("MODELOPS_IMAGE_PREFIX") or self.registry

    def gateway_address(self) -> tuple[str, int]:
        host, _, port = self._given("MODELOPS_GATEWAY").rpartition(":")
        return host, int(port)

    def prometheus_url(self) -> str:
        return self._given("MODELOPS_PROMETHEUS")

    @cached_property
    def faults(self) -> Faults:
        return Anywhere(lambda: self.kubectl)

    def _gpu_nodes(self) -> tuple[str, ...]:
        seen: Any = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return tuple(
            node["metadata"]["name"]
            for node in seen
            if node["status"]["allocatable"].get("nvidia.com/gpu", "0") != "0"
        )

    def _given(self, variable: str) -> str:
        value = self._environment.get(variable, "")
        if not value:
            raise RuntimeError(
                f"provider existing: needs {variable}, found it unset; set it, or use provider native"
            )
        return value


def impersonating(admin: Path, user: str, groups: Sequence[str]) -> Path:
    """Return a kubeconfig beside *admin* that acts as *user*, with the administrator's own credentials."""
    config = yaml.safe_load(admin.read_text())
    for entry in config["users"]:
        entry["user"] |= {"as": user} | ({"as-groups": list(groups)} if groups else {})
    path = admin.with_name("-".join(("user", user, *groups)).replace("/", "_") + ".kubeconfig")
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def _program() -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise RuntimeError("provider existing: needs kubectl, found none in PATH; install it")
    return program
