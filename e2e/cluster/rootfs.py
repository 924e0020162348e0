"""Make the root file systems that images start from, out of the distribution's packages."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.packages import Unsupported
from e2e.cluster.progress import Stage, run, say

EPOCH = "1767225600"  # 2026-01-01: no file is newer, so that the same packages give the same bytes

DROP = (  # nothing here runs in a pod
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
)

CLEAN = (
    # apt's settings of this machine (mirror, proxy) must not reach an image.
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
    'rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/var/lib/apt/lists/* "$1"/usr/share/doc',
    'rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/machine-id "$1"/var/lib/dpkg/*-old',
)

LIST = """chroot "$1" dpkg-query --show --showformat '${Package}=${Version}\\n'"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A root file system: a suite, the packages in it, and shell lines that finish it ("$1" is the root)."""

    name: str
    suite: str
    packages: tuple[str, ...]
    finish: tuple[str, ...] = ()


PYTHON = Recipe(
    "python",
    "trixie",
    ("python3", "python3-pip", "ca-certificates"),
    (
        'ln -s python3 "$1"/usr/bin/python',
        # pip shall work in a RUN line as it does on the public Python images.
        'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
        'rm -rf "$1"/usr/lib/python3*/test "$1"/usr/lib/python3*/idlelib "$1"/usr/lib/python3*/pydoc_data',
    ),
)
LLAMA = Recipe("llama", "sid", ("llama.cpp-tools",))


@functools.cache
def ensure(recipe: Recipe) -> Path:
    """Return a folder with ``root.tar`` and ``packages.txt``, the packages and versions in it.

    Made once per recipe: the suites move daily, so the versions are those of the day it was made.
    Remove the folder to take today's.

    Raises:
        Unsupported: this machine's apt names no Debian mirror.
    """
    material = {
        "suite": recipe.suite,
        "packages": " ".join(recipe.packages),
        "script": "\n".join((*DROP, *CLEAN, *recipe.finish, EPOCH)),
        "architecture": run(["dpkg", "--print-architecture"]).strip(),
    }
    folder = cache.keyed(f"rootfs/{recipe.name}", material, lambda work, step: _build(recipe, work, step))
    listed = (folder / "packages.txt").read_text().splitlines()
    main = [line.replace("=", " ") for line in listed if line.partition("=")[0] in recipe.packages]
    say(f"rootfs {recipe.name}: {recipe.suite}, {len(listed)} packages, among them {', '.join(main)}")
    return folder


def digest(folder: Path) -> str:
    """Return the SHA-256 of the ``root.tar`` in a folder that ``ensure`` gave."""
    return (folder / "sha256").read_text()


def mirror(targets: str) -> str:
    """Return the address of the Debian archive out of what ``apt-get indextargets`` printed.

    One line per index, ``address|origin|label``; security archives have another label.

    Raises:
        Unsupported: there is no line of Debian's main archive.
    """
    for line in targets.splitlines():
        address, origin, label = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise Unsupported(
        "root file systems: needs a Debian mirror in apt's sources, found none; "
        "add one and run apt-get update"
    )


def _mirror() -> str:
    form = "$(REPO_URI)|$(ORIGIN)|$(LABEL)"
    question = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    targets = run(question)
    if "|Debian|" not in targets:  # origins are unknown before the first update
        run(["apt-get", "update"])
        targets = run(question)
    return mirror(targets)


def _build(recipe: Recipe, work: Path, step: Stage) -> None:
    with tempfile.TemporaryDirectory(prefix="modelops-apt-") as folder:
        settings = Path(folder, "apt.conf")
        settings.write_text(_machine_settings())
        tar = work / "root.tar"
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join(recipe.packages)}",
                f"--aptopt={settings}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in DROP),
                f"--customize-hook={LIST} > {work}/packages.txt",
                *(f"--customize-hook={line}" for line in (*recipe.finish, *CLEAN)),
                recipe.suite,
                tar,
                _mirror(),
            ],
            log=cache.log_of(f"rootfs/{recipe.name}"),
            step=step,
            env={"SOURCE_DATE_EPOCH": EPOCH, "TMPDIR": str(work)},
        )
        (work / "sha256").write_text(cache.sha256_of(tar))


def _machine_settings() -> str:
    """Return how this machine's apt fetches (proxies, certificates, checks), as apt.conf lines."""
    lines = run(["apt-config", "dump", "Acquire"]).splitlines()
    plain = [line for line in lines if "IndexTargets" not in line and "cdrom" not in line]
    return "\n".join(plain) + "\n"
