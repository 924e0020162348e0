"""A pretend NVML: a real shared library that pynvml loads, saying what a file says.

library = ensure()                                  # the folder with libnvidia-ml.so.1
Machine((h100(0), h100(1))).write(path)             # what it says from now on
subprocess.Popen(..., env=environment(library, path))
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.packages import Unsupported
from e2e.cluster.progress import Stage, run

SOURCE = Path(__file__).parent / "nvml.c"
SONAME = "libnvidia-ml.so.1"
FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}")
MIB = 2**20
LOST, RESET_REQUIRED, NO_PERMISSION, DRIVER_NOT_LOADED = 15, 16, 4, 9
"""What NVML returns; Source: nvidia-ml-py 13.615."""


def ensure() -> Path:
    """Return the folder with the library, built first when the source is new.

    Raises:
        Unsupported: there is no C compiler.
        CommandFailed: the source does not compile.
    """
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise Unsupported(
            "pretend NVML: needs a C compiler, found none; install the packages gcc and libc6-dev"
        )
    version = run([compiler, "--version"]).splitlines()[0]
    material = {SOURCE.name: SOURCE.read_text(), "flags": " ".join(FLAGS), "compiler": version}

    def build(work: Path, step: Stage) -> None:
        run([compiler, *FLAGS, "-o", str(work / SONAME), str(SOURCE), "-lpthread"], step=step)

    return cache.keyed("binaries/nvml", material, build)


def environment(library: Path, machine: Path) -> dict[str, str]:
    """Return the environment of a program that shall meet this NVML."""
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "MODELOPS_FAKE_NVML": str(machine)}


@dataclass(frozen=True, slots=True)
class Slice:
    """A MIG slice; without a name the program has to reckon its profile."""

    total: int
    free: int
    gpu_slices: int
    compute_slices: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What one GPU says; None: it does not support the question."""

    name: str
    bus: str
    total: int
    free: int
    reserved: int | None = None
    mig: bool | None = None
    slices: tuple[Slice, ...] = ()
    links: tuple[str, ...] = ()
    """The PCI address at the other end of each link, or "off"."""
    mps: int = 0
    ecc: int | None = None
    remapped: tuple[int, int, int, int] | None = None
    """Rows by corrected and uncorrected errors; whether a reset is pending; whether it failed."""
    retired: tuple[int, int, int] | None = None
    """Pages by single-bit and double-bit errors; whether a reset is pending."""
    recovery: int | None = None
    result: int = 0
    """What every question returns; 0 is success."""
    hangs: bool = False

    def lines(self) -> Mapping[str, object]:
        """Return its keys and values."""
        found: dict[str, object] = {
            "name": self.name,
            "bus": self.bus,
            "total": self.total,
            "free": self.free,
        }
        found |= {"reserved": self.reserved, "mig": None if self.mig is None else int(self.mig)}
        found |= {"mps": self.mps, "ecc": self.ecc, "recovery": self.recovery, "result": self.result}
        found |= {"hangs": int(self.hangs)}
        if self.remapped is not None:
            found["remapped"] = ",".join(map(str, self.remapped))
        if self.retired is not None:
            found |= dict(
                zip(("retiredSingle", "retiredDouble", "retiredPending"), self.retired, strict=True)
            )
        found |= {f"link.{number}": remote for number, remote in enumerate(self.links)}
        for number, piece in enumerate(self.slices):
            told = {"total": piece.total, "reserved": 0, "free": piece.free, "name": piece.name or None}
            told |= {"gpuSlices": piece.gpu_slices, "computeSlices": piece.compute_slices}
            found |= {f"slice.{number}.{key}": value for key, value in told.items()}
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Machine:
    """All that the library says."""

    gpus: tuple[Gpu, ...]
    driver: str = "580.95.05"
    cuda: int = 13000
    init: int = 0
    """What nvmlInit returns."""
    result: int = 0
    """What the question for the number of GPUs returns."""
    xids: tuple[tuple[int, int], ...] = field(default=())
    """GPU and number of every XID so far; those added later are heard."""

    def write(self, path: Path) -> None:
        """Make the library say this from now on."""
        lines = [f"init={self.init}", f"result={self.result}", f"driver={self.driver}", f"cuda={self.cuda}"]
        lines += [f"count={len(self.gpus)}", f"events={len(self.xids)}"]
        lines += [f"event.{number}={gpu} {xid}" for number, (gpu, xid) in enumerate(self.xids, 1)]
        lines += [
            f"gpu.{index}.{key}={value}"
            for index, gpu in enumerate(self.gpus)
            for key, value in gpu.lines().items()
        ]
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n")
        partial.replace(path)

    def with_gpu(self, index: int, **changes: object) -> "Machine":
        """Return the machine with one GPU changed."""
        gpus = list(self.gpus)
        gpus[index] = replace(gpus[index], **changes)  # type: ignore[arg-type]
        return replace(self, gpus=tuple(gpus))

    def with_xid(self, index: int, number: int) -> "Machine":
        """Return the machine after one more XID."""
        return replace(self, xids=(*self.xids, (index, number)))


def h100(index: int, **changes: object) -> Gpu:
    """Return one of eight H100, joined by four switches; memory as research/engines.md 4.7 has it."""
    switches = tuple(f"00000000:{0xC0 + switch:02X}:00.0" for switch in range(4) for _ in range(4))
    gpu = Gpu(
        name="NVIDIA H100 80GB HBM3",
        bus=f"00000000:{0x10 + index:02X}:00.0",
        total=81559 * MIB,
        reserved=551 * MIB,
        free=81007 * MIB,
        mig=False,
        links=(*switches, "off", "off"),
        ecc=0,
        remapped=(0, 0, 0, 0),
        recovery=0,
    )
    return replace(gpu, **changes)  # type: ignore[arg-type]


def l4(index: int, **changes: object) -> Gpu:
    """Return an L4, which has no NVLink and no MIG."""
    gpu = Gpu(
        name="NVIDIA L4",
        bus=f"00000000:{0x30 + index:02X}:00.0",
        total=23034 * MIB,
        reserved=456 * MIB,
        free=22577 * MIB,
        ecc=0,
        remapped=(0, 0, 0, 0),
    )
    return replace(gpu, **changes)  # type: ignore[arg-type]
