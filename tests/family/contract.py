"""What every engine of the family must do, on a process started by the arguments that its file renders.

`lives` and `dies` tell the whole life of one member; the members are in ``test_stand_in_family.py`` (seconds)
and in ``tests/processes`` (real engines, ``make test-engines``).
"""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from prometheus_client.parser import text_string_to_metric_families

from modelops.engines.base import Adapter, Ask, Engine, Facts, Launch, Series
from modelops.meter.main import Meter, Options

NAME = "chat"
PORTS = (8000, 8001, 8002, 8080)
"""Every port that an engine file renders; a test gives each process others."""


@dataclass(frozen=True)
class Member:
    """One engine with a model, and how its program is found on this machine."""

    engine: Engine
    facts: Facts
    files: Path
    """What would be mounted at /model/files."""
    program: Callable[[Launch], Sequence[str]]
    """What stands in place of the image's command."""
    path: str
    """Where it is asked."""
    body: Mapping[str, Any]
    slow: Mapping[str, Any]
    """A request that takes a second at least; answered in a stream where ``streams``."""
    bad: Mapping[str, Any]
    """A request that is the caller's fault."""
    ask: Ask = Ask(NAME)
    env: Mapping[str, str] = field(default_factory=dict)
    streams: bool = False
    broken: Callable[[Path], None] = lambda files: None
    """Spoils a copy of the files."""
    dead_code: int = 1
    """Exit code when the model cannot be loaded."""
    start_seconds: float = 20.0
    pause_seconds: float = 0.2
    """Between the last new request and SIGTERM, 15 s in a pod."""
    exit_seconds: float = 20.0
    busy: int = 4
    """Open requests when it is told to end."""


@dataclass
class Running:
    """A started process and where it is reached."""

    process: asyncio.subprocess.Process
    launch: Launch
    ports: Mapping[int, int]
    log: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.ports[self.launch.port]}"

    @property
    def metrics(self) -> str:
        port = self.launch.metrics_port or self.launch.port
        return f"http://127.0.0.1:{self.ports[port]}/metrics"

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


async def lives(member: Member, folder: Path) -> None:
    """Start, be ready no sooner than a model answers, serve, stream, be scraped, end without a cut answer."""
    async with (
        started(member, folder, member.files) as running,
        facing(running) as (front, metrics),
        session() as client,
    ):
        await becomes_ready(member, running, client, front)
        asked = 1 + await serves(member, client, front)
        if member.streams:
            asked += await one_stream(member, client, front)
        await takes_no_adapter(member, client, front)
        await is_scraped(member, client, metrics, asked)
        await ends_well(member, running, client, front, metrics)


async def carries(member: Member, folder: Path) -> None:
    """Serve each adapter under its name beside the model; end at once when one of them is not there."""
    names = ("legal", "medical")
    adapters = tuple(Adapter(name, f"/adapters/{name}", 16) for name in names)
    for name in names:
        (folder / "adapters" / name).mkdir(parents=True)
        (folder / "adapters" / name / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 16}')
    with_them = replace(member, ask=replace(member.ask, adapters=adapters))
    async with (
        started(with_them, folder, member.files) as running,
        facing(running) as (front, metrics),
        session() as client,
    ):
        await becomes_ready(with_them, running, client, front)
        async with client.get(front + "/v1/models") as answer:
            assert {one["id"] for one in (await answer.json())["data"]} == {NAME, *names}
        for name in (NAME, *names):
            async with client.post(front + member.path, json={**member.body, "model": name}) as answer:
                assert (answer.status, (await answer.json())["model"]) == (200, name)
        await takes_no_adapter(with_them, client, front)
        await ends_well(with_them, running, client, front, metrics)
    (folder / "adapters" / names[0] / "adapter_config.json").unlink()
    async with started(with_them, folder, member.files) as running:
        code = await asyncio.wait_for(running.process.wait(), member.start_seconds)
    assert code, "serves without an adapter that it was told to load"
    assert names[0] in running.last_words()


async def dies(member: Member, folder: Path) -> None:
    """With a model that cannot be loaded, end with the code that is known, and never be ready."""
    files = folder / "broken"
    copy(member.files, files)
    member.broken(files)
    async with started(member, folder, files) as running, session() as client:
        deadline = time.monotonic() + member.start_seconds
        while running.process.returncode is None:
            assert time.monotonic() < deadline, f"lives on with a broken model: {running.last_words()}"
            assert await status_of(client, running.base + running.launch.ready_path) != 200
            await asyncio.sleep(0.05)
    assert running.process.returncode == member.dead_code, running.last_words()
    assert running.last_words().strip(), "dies without a word"


# --- parts of a life ---------------------------------------------------------------------------------


async def becomes_ready(member: Member, running: Running, client: ClientSession, front: str) -> None:
    """Be unready first, and answer for the model at the very moment that ready is said."""
    deadline = time.monotonic() + member.start_seconds
    looks = 0
    while await status_of(client, front + running.launch.ready_path) != 200:
        looks += 1
        assert running.process.returncode is None, running.last_words()
        assert time.monotonic() < deadline, f"not ready in time: {running.last_words()}"
        await asyncio.sleep(0.02)
    async with client.post(front + member.path, json=member.body) as answer:
        assert answer.status == 200, f"ready, but the model does not answer: {await answer.text()}"
    assert looks > 0, "said ready before anything was loaded"
    assert await status_of(client, front + running.launch.health_path) == 200


async def serves(member: Member, client: ClientSession, front: str) -> int:
    """Answer under the served name; blame callers for their mistakes.  Return how many were asked."""
    async with client.post(front + member.path, json=member.body) as answer:
        said = await answer.json()
    assert said.get("model", said.get("model_name")) == NAME
    async with client.post(front + member.path, json=member.bad) as answer:
        assert 400 <= answer.status < 500, await answer.text()
        assert "Traceback" not in await answer.text()
    return 2


async def one_stream(member: Member, client: ClientSession, front: str) -> int:
    """Send the answer in more than one piece, and end it as the protocol says."""
    body = {**member.body, "stream": True, "max_tokens": 8}
    async with client.post(front + member.path, json=body) as answer:
        assert answer.status == 200
        events = [line for line in (await answer.text()).splitlines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    assert len(events) > 3
    return 1


async def takes_no_adapter(member: Member, client: ClientSession, front: str) -> None:
    """Load no adapter by an argument of the user's, nor for a caller."""
    for flag in ("--enable-lora", "--lora-modules", "--lora-paths", "--lora"):
        refused = member.engine.refuses(member.facts, replace(member.ask, extra_args=(flag, "a=/b")))
        assert refused is not None
        assert flag in refused.message
    for path in ("/v1/load_lora_adapter", "/load_lora_adapter"):
        async with client.post(front + path, json={"lora_name": "a", "lora_path": "/b"}) as answer:
            assert answer.status >= 400


async def is_scraped(member: Member, client: ClientSession, metrics: str, asked: int) -> None:
    """Have every series that the judge and the scaler ask for, and count each request once."""
    queries = member.engine.queries
    text = ""
    for _ in range(100):  # counted after the last byte of an answer
        async with client.get(metrics) as answer:
            assert answer.status == 200
            text = await answer.text()
        if value(text, queries.requests) == asked:
            break
        await asyncio.sleep(0.02)
    assert value(text, queries.requests) == asked, f"{queries.requests} of {asked}: {text[:3000]}"
    for errors in queries.errors:
        assert value(text, errors) == 0
    histograms = (queries.ttft, queries.tpot, queries.e2e)
    for series in (*histograms, queries.prompt_tokens, queries.generation_tokens):
        if series is not None:
            assert exists(text, series), f"{series} is not among the metrics"
    for series in histograms:
        if series is not None and series is not queries.tpot:
            assert value(text, replace(series, matchers=_with(series.matchers, 'le="+Inf"'))) > 0, series
    for gauge in (queries.running, queries.waiting, queries.kv_usage):
        assert gauge is None or exists(text, gauge), f"{gauge} is not among the metrics"


async def ends_well(
    member: Member, running: Running, client: ClientSession, front: str, metrics: str
) -> None:
    """Finish every open answer after the order of a pod's end: no new requests, preStop, SIGTERM."""
    body = {**member.slow, "stream": True} if member.streams else member.slow
    waiting = [asyncio.create_task(whole(client, front + member.path, body)) for _ in range(member.busy)]
    await asyncio.sleep(member.pause_seconds)
    ended = [task.result() for task in waiting if task.done()]
    assert not ended, f"the slow request is too quick to prove anything: {ended[0][0]} {ended[0][1][:200]}"
    if running.launch.metered:
        await client.get(metrics.replace("/metrics", "/wait-drained"))
    running.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    for status, text in await asyncio.gather(*waiting):
        assert status == 200, text[-500:]
        if member.streams:
            assert text.endswith("data: [DONE]\n\n"), f"a stream was cut: {text[-200:]}"
            assert '"error"' not in text
    async with asyncio.timeout(member.exit_seconds):
        code = await running.process.wait()
    assert code == 0, f"after {time.monotonic() - began:.1f} s: {running.last_words()}"


async def whole(client: ClientSession, url: str, body: Mapping[str, Any]) -> tuple[int, str]:
    data = io.BytesIO(json.dumps(body).encode())  # the client warns of megabytes in one piece
    async with client.post(url, data=data, headers={"Content-Type": "application/json"}) as answer:
        return answer.status, await answer.text()


# --- processes ---------------------------------------------------------------------------------------


@asynccontextmanager
async def started(member: Member, folder: Path, files: Path) -> AsyncIterator[Running]:
    """Start the member by its own arguments; only ports and folders of the container become others."""
    ask = replace(member.ask, drain=timedelta(seconds=60))
    assert member.engine.refuses(member.facts, ask) is None
    launch = member.engine.launch(member.facts, ask)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    here = places(launch, folder, files, ports)
    command = [*member.program(launch), *(here(arg) for arg in launch.args)]
    env = {name: here(text) for name, text in launch.env.items()}
    log = folder / f"{files.name}.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": os.environ["PATH"], **env, **member.env},
            cwd=folder,
            stdout=sink,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(process, launch, ports, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def places(launch: Launch, folder: Path, files: Path, ports: Mapping[int, int]) -> Callable[[str], str]:
    """Return what turns an argument of the container into one of this machine."""
    inside = {name: folder / name.lstrip("/") for name in ("/adapters", "/cache", "/models", "/tmp")}
    for path in inside.values():
        path.mkdir(exist_ok=True)
    inside["/model/files"] = files
    folders = re.compile(rf"(^|=)({'|'.join(inside)})(?=/|$)")
    numbers = re.compile(rf"(^|=)({'|'.join(map(str, PORTS))})$")
    if launch.model_at:
        mounted = folder / launch.model_at.lstrip("/")
        mounted.parent.mkdir(parents=True, exist_ok=True)
        mounted.unlink(missing_ok=True)
        mounted.symlink_to(files)

    def here(text: str) -> str:
        text = folders.sub(lambda m: f"{m[1]}{inside[m[2]]}", text)
        return numbers.sub(lambda m: f"{m[1]}{ports[int(m[2])]}", text)

    return here


@asynccontextmanager
async def facing(running: Running) -> AsyncIterator[tuple[str, str]]:
    """Yield where callers and Prometheus come: the meter's ports where the engine has one."""
    if not running.launch.metered:
        yield running.base, running.metrics
        return
    options = Options(
        ("127.0.0.1", 0),
        ("127.0.0.1", 0),
        running.base,
        ready_path=running.launch.ready_path,
        drain_grace=0.1,
        quiet=0.1,
    )
    async with Meter(options) as meter:
        front, back = meter.options.listen[1], meter.options.metrics_listen[1]
        yield f"http://127.0.0.1:{front}", f"http://127.0.0.1:{back}/metrics"


def session() -> ClientSession:
    """Return a client that opens a connection for each request: none is closed under a request."""
    return ClientSession(connector=TCPConnector(force_close=True), timeout=ClientTimeout(total=120))


async def status_of(client: ClientSession, url: str) -> int:
    try:
        async with client.get(url) as answer:
            return answer.status
    except (ClientError, ConnectionError):
        return 0


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())


# --- metrics -----------------------------------------------------------------------------------------

_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


def value(text: str, series: Series) -> float:
    """Return the sum of the samples that a series means, as Prometheus would add them."""
    return sum(_samples(text, series))


def exists(text: str, series: Series) -> bool:
    return bool(_samples(text, series))


def _samples(text: str, series: Series) -> list[float]:
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == series.name and _matches(sample.labels, series.matchers)
    ]


def _matches(labels: Mapping[str, str], matchers: str) -> bool:
    for name, how, wanted in _MATCHER.findall(matchers):
        found = labels.get(name, "")
        holds = re.fullmatch(wanted, found) is not None if how == "=~" else (found == wanted) is (how == "=")
        if not holds:
            return False
    return True


def _with(matchers: str, more: str) -> str:
    return f"{matchers},{more}" if matchers else more
