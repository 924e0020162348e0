"""The pretend NVML, loaded into this process before pynvml looks for the real one."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.nvml import SONAME, Machine, ensure


@pytest.fixture(scope="session")
def library() -> Path:
    """Return the folder of the library; the loader then finds it under its name wherever that is asked."""
    folder = ensure()
    ctypes.CDLL(str(folder / SONAME))
    return folder


@pytest.fixture
def machine_file(tmp_path: Path) -> Path:
    return tmp_path / "machine"


@pytest.fixture
def say(library: Path, machine_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """Return what makes the library say something else from now on."""
    monkeypatch.setenv("MODELOPS_FAKE_NVML", str(machine_file))
    return lambda machine: machine.write(machine_file)
