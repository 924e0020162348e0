"""Build the cluster's Go programs from their modules, as parts/<part>/go.mod pins them."""

import functools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.packages import Unsupported
from e2e.cluster.progress import CommandFailed, Stage, run

PARTS = Path(__file__).parent / "parts"
GO = (1, 26)


@dataclass(frozen=True, slots=True)
class Part:
    """How a part is built: its module, build tags, and variables that hold the module's version."""

    name: str
    module: str
    tags: str = ""
    version_in: tuple[str, ...] = ()
    """Go variables set to the version: a program built as a dependency does not know its own."""
    rename: tuple[tuple[str, str], ...] = ()


_KUBERNETES_VERSION = (
    "k8s.io/component-base/version.gitVersion",
    "k8s.io/client-go/pkg/version.gitVersion",
)

BUILT = {
    part.name: part
    for part in (  # in the order of building: what the integration tests wait for comes first
        Part("kubernetes", "k8s.io/kubernetes", version_in=_KUBERNETES_VERSION),
        Part("etcd", "go.etcd.io/etcd/server/v3", rename=(("server", "etcd"),)),
        Part("containerd", "github.com/containerd/containerd/v2", tags="no_btrfs no_devmapper no_zfs"),
        Part("pause", ""),
        Part("coredns", "github.com/coredns/coredns"),
        Part("helm", "helm.sh/helm/v4"),
        Part(
            "prometheus",
            "github.com/prometheus/prometheus",
            # Without the tags every service discovery there is, and each cloud's client, is built.
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        Part(
            "envoy-gateway",
            "github.com/envoyproxy/gateway",
            version_in=("github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion",),
        ),
        Part("kwok", "sigs.k8s.io/kwok"),
    )
}
CLUSTER = tuple(name for name in BUILT if name != "kwok")
"""The parts that a cluster needs; kwok is built only for who asks for it."""


@functools.cache
def ensure(part: str) -> Path:
    """Return the folder with the programs of *part*, built first when the key is new.

    Key: go.mod, go.sum, sources of our own, tags and linker flags, and the version of Go.  One
    build at a time on this machine: side by side nothing is gained on two cores.

    Raises:
        Unsupported: Go is missing or too old.
        CommandFailed: the build failed; the text has its last lines and the name of the log.
    """
    spec, source = BUILT[part], PARTS / part
    flags = _flags(spec)
    material = {path.name: path.read_text() for path in sorted(source.iterdir()) if path.is_file()}
    material |= {"flags": " ".join(flags), "go": _go_version(), "rename": repr(spec.rename)}
    return cache.keyed(f"binaries/{part}", material, lambda work, step: _build(spec, flags, work, step))


def version(part: str) -> str:
    """Return the version of the part's module in its go.mod, such as ``v1.36.3``."""
    return pinned(BUILT[part].module, (PARTS / part / "go.mod").read_text())


def pinned(module: str, go_mod: str) -> str:
    """Return the version that a go.mod requires of *module*.

    Raises:
        LookupError: the file does not require it.
    """
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise LookupError(f"go.mod: needs a line that requires {module}, found none; run go get -tool")
    return found[1]


def module_dir(part: str, module: str) -> Path:
    """Return the folder with the files of *module* in the version that *part* pins.

    It lies in Go's own module cache and is read-only.
    """
    wanted = f"{module}@{pinned(module, (PARTS / part / 'go.mod').read_text())}"
    told = run(["go", "mod", "download", "-json", wanted], cwd=PARTS / part)
    return Path(json.loads(told)["Dir"])


def _flags(spec: Part) -> tuple[str, ...]:
    link = ["-s", "-w"]
    link += [f"-X {name}={version(spec.name)}" for name in spec.version_in]
    tags = ("-tags", spec.tags) if spec.tags else ()
    return ("-trimpath", "-buildvcs=false", "-ldflags", " ".join(link), *tags)


def _go_version() -> str:
    try:
        told = run(["go", "env", "GOVERSION", "GOOS", "GOARCH"], cwd=PARTS / "kubernetes")
    except CommandFailed as error:
        raise Unsupported(
            f"Go programs: need Go {GO[0]}.{GO[1]} or newer, found none that runs; install it ({error})"
        ) from error
    numbers = re.match(r"go(\d+)\.(\d+)", told)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < GO:
        raise Unsupported(
            f"Go programs: need Go {GO[0]}.{GO[1]} or newer, found {told.split()[0]}; install a newer one"
        )
    return " ".join(told.split())


def _build(spec: Part, flags: tuple[str, ...], work: Path, step: Stage) -> None:
    what = "tool" if spec.module else "."  # the tools of go.mod, or the program in the folder itself
    step.doing = "waiting for another build"
    with cache.lock("go-build"):
        run(
            ["go", "build", "-v", *flags, "-o", f"{work}/", what],
            cwd=PARTS / spec.name,
            env={"CGO_ENABLED": "0"},
            log=cache.log_of(f"binaries/{spec.name}"),
            step=step,
        )
    for old, new in spec.rename:
        shutil.move(work / old, work / new)
