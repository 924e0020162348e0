"""A web server on loopback that answers as a test says, and a client connected to it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from modelops.clients.kube import Kube

Answer = Callable[["Asked"], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    request: web.Request = field(repr=False)

    def cut(self) -> web.Response:
        """Cut the connection instead of answering."""
        assert self.request.transport is not None
        self.request.transport.abort()
        return web.Response()

    async def stream(self, *lines: Any) -> web.StreamResponse:
        """Answer with one JSON line each, then end the stream."""
        response = web.StreamResponse()
        await response.prepare(self.request)
        for line in lines:
            await response.write(json.dumps(line).encode() + b"\n")
        return response


@dataclass
class Server:
    """Where it listens, and what it was asked."""

    url: str
    asked: list[Asked]


def refusal(code: int, message: str = "", **more: Any) -> web.Response:
    """Return a ``Status`` object as the API server answers it."""
    headers = more.pop("headers", None)
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message, **more}
    return web.json_response(body, status=code, headers=headers)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    """Answer every request by *answer*."""
    asked: list[Asked] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        raw = await request.text()
        is_json = raw.startswith(("{", "["))
        one = Asked(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            json.loads(raw) if is_json else raw,
            request,
        )
        asked.append(one)
        found = answer(one)
        return found if isinstance(found, web.StreamResponse) else await found

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Server(site.name, asked)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(answer: Answer, **more: Any) -> AsyncIterator[tuple[Kube, Server]]:
    """Yield a client of a server that answers by *answer*."""
    async with serving(answer) as server:
        configuration = Configuration(host=server.url)
        configuration.client_session_kwargs = {"trust_env": False}
        kube = Kube(configuration, **more)
        try:
            yield kube, server
        finally:
            await kube.close()
