"""Build images from Dockerfiles with buildah in a store of our own, and push them to a registry."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.progress import CommandFailed, Stage, run, stage

KEEP_TAGS = 6
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_PLACES = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")
"""What pip is told on a machine about where packages come from, and how patient to be."""

# A store of our own, without the mount that buildah else leaves behind over the store's folder.
STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{root}"
runroot = "{run}"
[storage.options.overlay]
skip_mount_home = "true"
"""


@dataclass(frozen=True, slots=True)
class Store:
    """Where buildah keeps layers, and with which driver."""

    folder: Path
    driver: str


def store(name: str, material: Mapping[str, str], archive: Callable[[Path], Path]) -> Store:
    """Return a store that holds the base image *name*; *archive* writes that image into a folder.

    Overlay where the file system can, else vfs, which copies whole images and is ten times slower.
    """
    driver = "overlay" if _has_overlay() else "vfs"

    def build(work: Path, _: Stage) -> None:
        with cache.staging(work) as scratch:
            _buildah(Store(work, driver), "pull", "--quiet", f"oci-archive:{archive(scratch)}:{name}")

    return Store(cache.keyed("buildah", {"driver": driver, **material}, build), driver)


def build(where: Store, dockerfile: Path, context: Path, image: str, build_args: Mapping[str, str]) -> str:
    """Build *image* and return its name; see :func:`e2e.cluster.images.build`."""
    arguments = [f"--build-arg={name}={value}" for name, value in build_args.items()]
    log = cache.log_of(f"image/{image.rpartition('/')[2]}")
    with stage(f"image {image}") as step, cache.lock("buildah"), _mounts() as volumes:
        try:
            _buildah(
                where,
                "bud",
                "--layers",
                "--pull-never",
                *volumes,
                *arguments,
                "--file",
                str(dockerfile),
                "--tag",
                image,
                str(context),
                log=log,
                step=step,
            )
        except CommandFailed:
            _buildah(where, "rm", "--all")  # else the failed container's mounts stay
            raise
        _remove_old_tags(where, image)
        step.outcome = "built"
    return image


def push(where: Store, image: str, target: str) -> str:
    """Push *image* as *target*, ``address/name:tag``, over plain HTTP.

    Layers go as they are: compressing costs more than it saves on one machine, and the base
    layer keeps the digest under which every node has it already.
    """
    with stage(f"push {target}") as step:
        _buildah(
            where,
            "push",
            "--quiet",
            "--disable-compression",
            "--tls-verify=false",
            image,
            f"docker://{target}",
        )
        step.outcome = "pushed"
    return target


def _remove_old_tags(where: Store, image: str) -> None:
    """Keep the newest tags of the image's name: each build has a tag of its own."""
    name = image.rpartition(":")[0]
    told = json.loads(_buildah(where, "images", "--json", "--filter", f"reference={name}") or "[]")
    by_age = sorted(told or [], key=lambda entry: str(entry["createdatraw"]), reverse=True)
    names = [tag for entry in by_age for tag in entry["names"] if tag.rpartition(":")[0] == name]
    for old in names[KEEP_TAGS:]:
        _buildah(where, "rmi", old)


@contextmanager
def _mounts() -> Iterator[list[str]]:
    """Give the options that lend a build this machine's certificates and package sources.

    They are mounted, so no image ever holds them.
    """
    with tempfile.TemporaryDirectory(prefix="modelops-pip-") as folder:
        settings = Path(folder, "pip.conf")
        settings.write_text(pip_settings(run([sys.executable, "-m", "pip", "config", "list"])))
        settings.chmod(0o644)
        options = [f"--volume={settings}:/etc/pip.conf:ro"]
        if BUNDLE.exists():
            options.append(f"--volume={BUNDLE}:{BUNDLE}:ro")
        yield options


def pip_settings(listed: str) -> str:
    """Return a pip.conf out of what ``pip config list`` printed: only PIP_PLACES, and the certificates.

    A line is ``global.index-url='...'``, or ``:env:.index-url='...'`` for one that is set by an
    environment variable, which wins.
    """
    found: dict[str, str] = {"cert": str(BUNDLE)}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_PLACES:
            found[option] = value.strip("'\"")
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())


def _has_overlay() -> bool:
    """Tell if the cache's file system can be the lower and upper side of an overlay."""
    with cache.staging(cache.root()) as work:
        try:
            _buildah(Store(work, "overlay"), "info")
        except CommandFailed:
            return False
    return True


def _buildah(where: Store, *words: str, log: Path | None = None, step: Stage | None = None) -> str:
    with tempfile.TemporaryDirectory(prefix="modelops-buildah-") as scratch:
        settings, policy = Path(scratch, "storage.conf"), Path(scratch, "policy.json")
        settings.write_text(STORAGE.format(driver=where.driver, root=where.folder, run=f"{scratch}/run"))
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return run(
            ["buildah", *words[:1], *_policy(words[0], policy), *words[1:]],
            log=log,
            step=step,
            env={"BUILDAH_ISOLATION": "chroot", "CONTAINERS_STORAGE_CONF": str(settings), "TMPDIR": scratch},
        )


def _policy(command: str, policy: Path) -> tuple[str, ...]:
    return ("--signature-policy", str(policy)) if command in ("pull", "bud", "push") else ()
