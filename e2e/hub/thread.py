"""Serve a hub from a thread of this process, for tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from e2e.hub.server import Hub


@contextmanager
def serving(hub: Hub, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve *hub* on a free port while the context is open; give its address."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(hub.app(), access_log=None, shutdown_timeout=0.2)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, host, 0).start()
        port: int = runner.addresses[0][1]
        return port

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
