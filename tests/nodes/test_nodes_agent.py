"""The agent between NVML and an API server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from e2e.nvml import LOST, Machine, h100
from modelops.api import names
from modelops.clients.kube import Kube
from modelops.nodes.agent import Agent
from modelops.nodes.facts import NodeFacts
from modelops.nodes.nvml import Nvml
from modelops.plan import Reason

Say = Callable[[Machine], None]
MACHINE = Machine((h100(0), h100(1)))


class Api:
    """An API server that takes one ModelNode by server-side apply."""

    def __init__(self, *, exists: bool = False) -> None:
        self.exists = exists
        self.broken = 0
        """How many more requests fail."""
        self.requests: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        node = f"/apis/{names.API_VERSION}/modelnodes/{{name}}"
        app.add_routes([web.patch(node, self._apply), web.patch(f"{node}/status", self._apply_status)])
        return app

    async def _apply(self, request: web.Request) -> web.Response:
        self.requests.append("apply")
        self.exists = True
        return web.json_response(await request.json())

    async def _apply_status(self, request: web.Request) -> web.Response:
        assert request.query["fieldManager"] == names.NODES_FIELD_MANAGER
        self.requests.append("status")
        if self.broken:
            self.broken -= 1
            return web.json_response({"message": "not now"}, status=503)
        if not self.exists:
            return web.json_response({"message": "not found"}, status=404)
        body = await request.json()
        assert body["metadata"] == {"name": "n1"}
        self.reports.append(body["status"])
        return web.json_response(body)

    def gpu(self, index: int) -> dict[str, Any]:
        """Return what the last report says of a GPU."""
        gpus = self.reports[-1].get("gpus", ()) if self.reports else ()
        return next((gpu for gpu in gpus if gpu["index"] == index), {})

    def condition(self) -> dict[str, Any]:
        return dict(self.reports[-1]["conditions"][0]) if self.reports else {}


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[Kube]:
    runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    configuration.client_session_kwargs = {"trust_env": False}
    kube = Kube(configuration)
    try:
        yield kube
    finally:
        await kube.close()
        await runner.cleanup()


class Looked(Nvml):
    """NVML that counts how often it was looked at."""

    count = 0

    def read(self) -> NodeFacts | Reason:
        self.count += 1
        return super().read()

    async def again(self, looks: int = 3) -> None:
        """Wait for more looks; what the last but one found has been told by then."""
        wanted = self.count + looks
        await until(lambda: self.count >= wanted)


def scene(
    api: Api,
    story: Callable[[Agent, Looked], Awaitable[None]],
    *,
    seconds: float = 0.02,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run *story* while an agent works that looks every *seconds*."""

    async def go() -> None:
        async with served(api) as kube:
            nvml = Looked("n1")
            agent = Agent(
                kube, nvml, "n1", seconds=seconds, answer_seconds=0.1, least_seconds=0.01, clock=clock
            )
            task = asyncio.create_task(agent.run())
            try:
                await story(agent, nvml)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happens():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("exists", "requests"),
    [
        pytest.param(True, ["status"], id="made by the delivery agent before"),
        pytest.param(False, ["status", "apply", "status"], id="not there yet"),
    ],
)
def test_the_gpus_of_the_node_are_reported_once(exists: bool, requests: list[str], say: Say) -> None:
    api = Api(exists=exists)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        assert not agent.is_ready
        await until(lambda: agent.is_ready)
        await nvml.again()
        assert api.requests == requests
        assert api.condition()["status"] == "True"
        assert [gpu["healthy"] for gpu in api.reports[-1]["gpus"]] == [True, True]

    scene(api, story)


def test_an_xid_takes_its_gpu_out_at_once_and_for_good(say: Say, caplog: pytest.LogCaptureFixture) -> None:
    api = Api(exists=True)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        started = time.monotonic()
        say(MACHINE.with_xid(1, 79))
        await until(lambda: api.gpu(1).get("xid") == 79)
        assert time.monotonic() - started < 2, "not at the next look, which is a minute away"
        assert api.gpu(1)["fault"] == "XID 79 (GPU has fallen off the bus)"
        assert not api.gpu(1)["healthy"]
        assert api.gpu(0)["healthy"]
        say(MACHINE.with_xid(1, 79).with_xid(0, 31))
        await nvml.again(1)
        say(MACHINE.with_xid(1, 79).with_xid(0, 31).with_xid(0, 43))
        await nvml.again(1)
        assert len(api.reports) == 2, "an error of an application changes nothing"
        assert api.reports[-1]["healthyCount"] == 1

    scene(api, story, seconds=60)
    assert "node=n1 gpu=1 xid=79 GPU has fallen off the bus" in caplog.text


def test_a_gpu_that_is_lost_is_told_and_comes_back(say: Say) -> None:
    api = Api(exists=True)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        say(MACHINE.with_gpu(1, result=LOST))
        await until(lambda: api.gpu(1).get("fault") == "lost")
        assert api.gpu(1)["product"] == "NVIDIA-H100-80GB-HBM3"
        assert "freeBytes" not in api.gpu(1)
        say(MACHINE)
        await until(lambda: api.gpu(1).get("healthy") is True)

    scene(api, story)


def test_a_gpu_that_hangs_the_driver_is_told_and_the_agent_goes_on(say: Say) -> None:
    api = Api(exists=True)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        say(MACHINE.with_gpu(0, hangs=True))
        await until(lambda: api.condition()["reason"] == "NvmlHangs")
        assert "n1: needs an answer of NVML within 0.1 s, found none" in api.condition()["message"]
        assert [gpu["fault"] for gpu in api.reports[-1]["gpus"]] == ["NvmlHangs", "NvmlHangs"]
        say(MACHINE)
        await until(lambda: api.condition()["status"] == "True")
        assert api.gpu(0)["healthy"]

    scene(api, story)


def test_a_node_without_a_driver_is_told_and_looked_at_again(
    say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api(exists=True)
    say(Machine((), init=9))

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        assert api.condition()["reason"] == "DriverNotLoaded"
        assert "gpus" not in api.reports[-1]
        await nvml.again()
        say(MACHINE)
        await until(lambda: api.condition()["status"] == "True")
        assert len(api.reports) == 2

    scene(api, story)
    assert caplog.text.count("DriverNotLoaded") == 1, "a state is logged once, not at each look"


def test_a_report_that_failed_is_sent_again_after_a_growing_pause(say: Say) -> None:
    api = Api(exists=True)
    api.broken = 2
    say(MACHINE)
    now = [0.0]

    async def story(agent: Agent, nvml: Looked) -> None:
        for at, requests in ((0.0, 1), (1.9, 1), (2.0, 2), (5.9, 2), (6.0, 3)):
            now[0] = at
            await nvml.again()
            assert len(api.requests) == requests, f"at {at} s"
        assert agent.is_ready

    scene(api, story, clock=lambda: now[0])


def test_a_stopped_agent_takes_its_free_memory_back(say: Say) -> None:
    api = Api(exists=True)
    say(MACHINE.with_gpu(1, ecc=1))

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        assert "freeBytes" in api.gpu(0)

    scene(api, story)
    assert api.condition()["reason"] == "AgentStopped"
    assert "freeBytes" not in api.gpu(0)
    assert not api.gpu(1)["healthy"]


def test_the_condition_keeps_its_time_while_its_status_is_the_same(say: Say) -> None:
    api = Api(exists=True)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        say(MACHINE.with_gpu(0, ecc=1))
        await until(lambda: len(api.reports) == 2)
        first, second = (one["conditions"][0]["lastTransitionTime"] for one in api.reports)
        assert first == second

    scene(api, story)


def test_a_stopped_agent_makes_no_model_node_anew(say: Say) -> None:
    api = Api(exists=True)
    say(MACHINE)

    async def story(agent: Agent, nvml: Looked) -> None:
        await until(lambda: agent.is_ready)
        api.exists = False

    scene(api, story)
    assert api.requests == ["status", "status"]
