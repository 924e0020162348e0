"""What the meter costs: added latency and CPU, direct and through it in one run, one JSON object.

``python tests/bench/bench_meter.py``, from anywhere.
The engine is the stand-in and answers at once; direct and metered requests take turns, so that noise of
the machine meets both.
"""

import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from aiohttp import ClientConnectorError, ClientSession, TCPConnector

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
WHOLE_ROUNDS = 600
STREAM_ROUNDS = 40
STREAMS_AT_ONCE = 10
STREAM_TOKENS = 100
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Side:
    """One way to the engine and what was seen on it; times in milliseconds."""

    url: str
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)


def main() -> int:
    """Run and print."""
    print(json.dumps(asyncio.run(_bench()), indent=1))
    return 0


async def _bench() -> dict[str, object]:
    engine_port, port, metrics_port = _free_ports(3)
    engine = (
        "-m", "e2e.engine", "--as", "llamacpp", "-m", "bench", "--port", str(engine_port),
        "-np", "64", "-c", "65536",
    )  # fmt: skip
    meter = (
        "-m", "modelops", "meter", "--listen", f"127.0.0.1:{port}", "--drain-grace", "0",
        "--metrics-listen", f"127.0.0.1:{metrics_port}", "--engine", f"http://127.0.0.1:{engine_port}",
    )  # fmt: skip
    knobs = {"STAND_IN_KNOBS": json.dumps({"ttft": 0.0, "itl": 0.005, "tokens": 1})}
    direct, metered = Side(f"http://127.0.0.1:{engine_port}"), Side(f"http://127.0.0.1:{port}")
    async with (
        _program(engine, knobs) as engine_pid,
        _program(meter, {}) as meter_pid,
        ClientSession(connector=TCPConnector(limit=0)) as client,
    ):
        for side in (direct, metered):
            await _until_healthy(client, side)
        sides = (direct, metered)

        async def whole() -> None:
            for _ in range(WHOLE_ROUNDS):
                for side in sides:
                    await _whole(client, side)

        async def stream() -> None:
            for _ in range(STREAM_ROUNDS):
                for side in sides:
                    await asyncio.gather(*(_stream(client, side) for _ in range(STREAMS_AT_ONCE)))

        whole_cpu = await _cpu_of(whole, meter_pid)
        stream_cpu = await _cpu_of(stream, meter_pid)
        streams = STREAM_ROUNDS * STREAMS_AT_ONCE
        return {
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
            "whole": {
                "requests": WHOLE_ROUNDS,
                **_compared("latency_ms", direct.whole, metered.whole),
                **_cost(whole_cpu, WHOLE_ROUNDS),
            },
            "stream": {
                "streams": streams,
                "tokens_each": STREAM_TOKENS,
                "open_at_once": STREAMS_AT_ONCE,
                **_compared("first_event_ms", direct.first, metered.first),
                **_compared("whole_stream_ms", direct.total, metered.total),
                **_cost(stream_cpu, streams),
                "meter_cpu_us_per_event": round(stream_cpu / (streams * STREAM_TOKENS) * 1e6, 1),
            },
            "meter_rss_mib": _rss_mib(meter_pid),
            "engine_stand_in_rss_mib": _rss_mib(engine_pid),
        }


def _compared(name: str, direct: list[float], metered: list[float]) -> dict[str, object]:
    at = {
        side: {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}
        for side, times in (("direct", direct), ("metered", metered))
    }
    added = {key: at["metered"][key] - at["direct"][key] for key in ("median", "p99")}
    rows = {**at, "added": added}
    return {name: {side: {key: round(ms, 3) for key, ms in row.items()} for side, row in rows.items()}}


def _cost(cpu_seconds: float, requests: int) -> dict[str, float]:
    return {
        "meter_cpu_s_per_1000": round(cpu_seconds / requests * 1000, 3),
        "meter_requests_per_s_and_core": round(requests / cpu_seconds, 1) if cpu_seconds else 0.0,
    }


async def _whole(client: ClientSession, side: Side) -> None:
    began = perf_counter()
    async with client.post(side.url + CHAT, json={"messages": [], "max_tokens": 1}) as answer:
        await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"bench: wants 200 from {side.url}, found {answer.status}; look at the engine")
    side.whole.append((perf_counter() - began) * 1e3)


async def _stream(client: ClientSession, side: Side) -> None:
    began = perf_counter()
    body = {"messages": [], "max_tokens": STREAM_TOKENS, "stream": True}
    async with client.post(side.url + CHAT, json=body) as answer:
        await answer.content.readany()
        side.first.append((perf_counter() - began) * 1e3)
        rest = await answer.read()
        if not rest.endswith(b"data: [DONE]\n\n"):
            raise RuntimeError(f"bench: wants a whole stream from {side.url}, found a cut one; run it again")
    side.total.append((perf_counter() - began) * 1e3)


async def _cpu_of(work: Callable[[], Awaitable[None]], pid: int) -> float:
    before = _cpu_seconds(pid)
    await work()
    return _cpu_seconds(pid) - before


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return round(kib / 1024, 1)


@asynccontextmanager
async def _program(argv: tuple[str, ...], environment: dict[str, str]) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, cwd=ROOT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _until_healthy(client: ClientSession, side: Side) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ClientConnectorError):
                async with client.get(f"{side.url}/health") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    sys.exit(main())
