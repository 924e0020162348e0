"""HTTP clients that call only addresses which a `Guard` has checked."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

from modelops.delivery.address import Guard

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 64 * 2**20
"""Of metadata: a listing of 10 000 files has about 3 MB."""

_GUARD: ContextVar[Guard] = ContextVar("guard")


class CheckedResolver(AbstractResolver):
    """Give aiohttp only checked addresses, so that it connects to what was checked."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of *host*.

        Raises:
            AddressRefused: one of them must not be called.
        """
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.resolve(host, port)
        ]

    async def close(self) -> None:
        """Hold nothing."""


@contextmanager
def hub_client(guard: Guard) -> Iterator[None]:
    """Make huggingface_hub call only what *guard* lets pass, in this context."""
    _install()
    token = _GUARD.set(guard)
    try:
        yield
    finally:
        _GUARD.reset(token)


@cache
def _install() -> None:
    """Give huggingface_hub, which has one client for the whole process, ours."""
    import httpx2
    from huggingface_hub import set_client_factory

    class Bounded(httpx2.SyncByteStream):
        """End a body that is longer than any listing."""

        def __init__(self, stream: httpx2.SyncByteStream) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            count = 0
            for chunk in self._stream:
                count += len(chunk)
                if count > MAX_ANSWER_BYTES:
                    raise httpx2.ReadError("the answer is too long")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    class Checked(httpx2.HTTPTransport):
        """Connect to a checked address; the name stays in the Host header and in TLS."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            url = request.url
            port = url.port or (443 if url.scheme == "https" else 80)
            try:
                address = _GUARD.get().look_up(url.host, port)[0]
            except socket.gaierror as error:
                raise httpx2.ConnectError(f"{url.host} has no address") from error
            request.headers["Accept-Encoding"] = "identity"
            direct = httpx2.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": url.host},
            )
            response = super().handle_request(direct)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise httpx2.DecodingError("the answer is compressed, which was not asked for")
            stream = response.stream
            assert isinstance(stream, httpx2.SyncByteStream)
            return httpx2.Response(
                response.status_code,
                headers=response.headers,
                stream=Bounded(stream),
                extensions=response.extensions,
            )

    def client() -> "httpx2.Client":
        return httpx2.Client(transport=Checked(), follow_redirects=True, max_redirects=5, trust_env=False)

    set_client_factory(client)
