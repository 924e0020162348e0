"""Answer the kubelet's probes and Prometheus."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelops.controllers import metrics

Check = Callable[[], str | None]
"""Returns None when all is well, else one sentence."""

Answer = Callable[[], web.Response]

_TICK_SECONDS = 1.0


async def serve(port: int, routes: Mapping[str, Answer]) -> web.AppRunner:
    """Listen on *port* of every address and return what has to be cleaned up."""
    app = web.Application()
    app.add_routes([web.get(path, _handler(answer)) for path, answer in routes.items()])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    return handle


def probe(*checks: Check) -> Answer:
    """Answer 200, or 503 with every sentence."""

    def answer() -> web.Response:
        wrong = [told for check in checks if (told := check())]
        return web.Response(status=503 if wrong else 200, text="\n".join(wrong) or "ok")

    return answer


def exposition() -> web.Response:
    """Answer with all metrics."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Lag:
    """Measure how late the event loop wakes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def run(self, each: Callable[[], None] = lambda: None) -> None:
        """Measure each second, for ever, and call *each*."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_TICK_SECONDS)
            self.seconds = max(0.0, loop.time() - before - _TICK_SECONDS)
            metrics.LOOP_LAG.set(self.seconds)
            each()
