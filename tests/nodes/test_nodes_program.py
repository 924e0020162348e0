"""The program as it runs on a node: one report on the terminal, and an agent that ends on SIGTERM."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from e2e.nvml import LOST, MIB, SONAME, Machine, Slice, environment, h100, l4
from modelops.api import names
from modelops.api.node import ModelNode

GOLDEN = Path(__file__).parent / "golden"
SMALL, LARGE = Slice(9856 * MIB, 9843 * MIB, 1, 1), Slice(40448 * MIB, 40395 * MIB, 3, 3)
BRIDGED = tuple(
    h100(i, links=(f"00000000:{0x10 + (i ^ 1):02X}:00.0",) * 4, name="NVIDIA H100 NVL", total=95830 * MIB)
    for i in range(4)
)
CASES = {
    "eight-joined-by-switches": Machine(tuple(h100(index) for index in range(8))),
    "two-bridged-pairs-one-lost": Machine(BRIDGED).with_gpu(3, result=LOST),
    "whole-and-sliced": Machine((h100(0, mig=True, slices=(SMALL, SMALL, LARGE)), h100(1))),
    "shared-and-worn": Machine((l4(0, mps=3, free=9000 * MIB), l4(1, ecc=2, remapped=(0, 2, 1, 0)))),
}
COMMAND = (sys.executable, "-m", "modelops", "nodes")


def once(environ: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--once", "--node", "n1", *more], env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("case", CASES)
def test_the_report_is_the_golden_one(
    case: str, library: Path, machine_file: Path, update_golden: bool
) -> None:
    CASES[case].write(machine_file)
    done = once(environment(library, machine_file), "-o", "yaml")
    assert (done.returncode, done.stderr) == (0, "")
    told = yaml.safe_load(done.stdout)
    text = done.stdout.replace(told["status"]["gpusObservedAt"], "<now>")
    golden = GOLDEN / f"{case}.yaml"
    if update_golden:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    ModelNode.parse(told)


def test_nothing_that_identifies_hardware_can_be_asked(library: Path) -> None:
    """The pretend library has neither question, so reading it all the same proves that nobody asks."""
    found = (library / SONAME).read_bytes()
    assert b"nvmlDeviceGetName\0" in found
    assert b"nvmlDeviceGetUUID" not in found
    assert b"nvmlDeviceGetSerial" not in found


def test_a_node_without_the_library_gets_a_sentence_and_a_report(tmp_path: Path) -> None:
    (tmp_path / SONAME).touch()  # found first, and no library, wherever a real one lies
    done = once({"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}, "-o", "json")
    assert done.returncode == 1
    assert done.stderr.startswith("n1: needs libnvidia-ml.so.1, found none; give the pod the NVIDIA runtime")
    status = yaml.safe_load(done.stdout)["status"]
    assert status["conditions"][0]["reason"] == "LibraryMissing"
    assert "gpus" not in status


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param((), "nodes: needs --node or NODE_NAME, found neither; set one", id="no name"),
        pytest.param(
            ("--node", "n1", "--seconds", "0.1"), "needs --seconds of 1 or more, found 0.1", id="too often"
        ),
    ],
)
def test_what_cannot_run_is_refused(more: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        [*COMMAND, *more],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_the_program_reports_and_ends_on_sigterm(library: Path, machine_file: Path, tmp_path: Path) -> None:
    CASES["eight-joined-by-switches"].write(machine_file)

    async def go() -> tuple[int | None, str]:
        arrived = asyncio.Event()

        async def apply_status(request: web.Request) -> web.Response:
            body = await request.json()
            if body["status"]["healthyCount"] == 8:
                arrived.set()
            return web.json_response(body)

        app = web.Application()
        app.add_routes([web.patch(f"/apis/{names.API_VERSION}/modelnodes/n1/status", apply_status)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = tmp_path / "config"
        config.write_text(yaml.safe_dump(kubeconfig(f"http://127.0.0.1:{runner.addresses[0][1]}")))
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--node", "n1", "--port", "0", "--kubeconfig", str(config),
            env=environment(library, machine_file), stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            await asyncio.wait_for(arrived.wait(), 20)
            process.send_signal(signal.SIGTERM)
            _, told = await asyncio.wait_for(process.communicate(), 5)
        finally:
            if process.returncode is None:
                process.kill()
            await runner.cleanup()
        return process.returncode, told.decode()

    code, told = asyncio.run(go())
    assert code == 0, told
    assert "node=n1 gpus=8 driver=580.95.05 read" in told
    assert "node=n1 stop" in told
    assert "Traceback" not in told


def kubeconfig(url: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "current-context": "c",
    }
