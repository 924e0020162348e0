"""Answer the kubelet's probes and Prometheus."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from modelops.controllers import metrics

log = logging.getLogger(__name__)

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


def exposition(
    refresh: Callable[[], None] = lambda: None, more: Callable[[], Iterable[Metric]] = tuple
) -> Answer:
    """Answer with all metrics: *refresh* sets gauges just before, *more* yields families of this moment.

    A gauge that is set now and then would tell of the past, such as of a leader that lost its Lease.
    """

    def answer() -> web.Response:
        refresh()
        body = generate_latest(_All(more))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


class _All(Collector):
    """What the process counts, and what is made for one scrape."""

    def __init__(self, more: Callable[[], Iterable[Metric]]) -> None:
        self._more = more

    def collect(self) -> Iterator[Metric]:
        made: list[Metric] = []
        try:
            made = list(self._more())
        except Exception:  # figures that cannot be made must not hide whether this replica lives
            log.exception("figures: cannot be made")
            metrics.FIGURE_FAILURES.inc()
        yield from REGISTRY.collect()
        yield from made


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
            metrics.LOOP_LAG.observe(self.seconds)
            each()
