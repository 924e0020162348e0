"""Metrics and probes of a node program over HTTP."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

AGENT = Gauge("modelops_agent_info", "1: this node program runs on that node.", ("program", "node_name"))


@asynccontextmanager
async def serving(port: int, is_ready: Callable[[], bool], *, program: str, node: str) -> AsyncIterator[None]:
    """Serve /metrics, /healthz and /readyz while the context is open."""
    AGENT.labels(program, node).set(1)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if is_ready() else web.Response(status=503, text="not ready yet\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthy), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    try:
        yield
    finally:
        await runner.cleanup()
