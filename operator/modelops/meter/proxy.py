"""Hand each request to the engine and its answer back, as the bytes come.  Retry nothing."""

import asyncio
import json
from collections.abc import Callable, Mapping

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
    hdrs,
)
from aiohttp.connector import Connection
from aiohttp.web import BaseRequest, Response, StreamResponse
from multidict import CIMultiDict
from yarl import URL

from modelops.meter.answers import Answer, Ending, is_inference
from modelops.meter.drain import Flow
from modelops.meter.metrics import Metrics

# RFC 9110 section 7.6.1, and what old clients still send.  Expect is answered here.
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
        "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
    }
)  # fmt: skip
_ANSWERED_HERE = frozenset({"expect"})
_ADDED_BY_THE_CLIENT_LIBRARY = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})

# Engines close connections idle for 5 s (uvicorn, cpp-httplib).  A shorter idle time here never
# meets a connection that the engine is about to close, and frees llama-server's threads.
_IDLE_SECONDS = 2.0
_CONNECT_SECONDS = 5.0


def engine_session() -> ClientSession:
    """Open the pool of connections to the engine.  Only connecting has a time limit."""
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
        timeout=ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=_ADDED_BY_THE_CLIENT_LIBRARY,
        response_class=_FromEngine,
    )


class _FromEngine(ClientResponse):
    """An answer whose connection is used again only when it told its length.

    llama-server (build 11669) closes the connection after each streamed answer and announces the
    opposite.  A request sent on it in that moment would be lost, and nothing is retried.
    """

    async def start(self, connection: Connection) -> ClientResponse:
        protocol = connection.protocol
        await super().start(connection)
        if protocol is not None and hdrs.CONTENT_LENGTH not in self.headers:
            protocol.force_close()
            if self.connection is None:  # all of it came at once: the connection is in the pool already
                protocol.close()
        return self


class Proxy:
    """The pass-through to one engine at *engine* (scheme, host and port, no path)."""

    def __init__(
        self,
        engine: str,
        session: ClientSession,
        metrics: Metrics,
        flow: Flow,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine.rstrip("/")
        self._session = session
        self._metrics = metrics
        self._flow = flow
        self._clock = clock

    async def answer(self, request: BaseRequest) -> StreamResponse:
        """Answer one request with what the engine answers."""
        now = self._clock()
        path = request.raw_path.partition("?")[0]
        self._flow.arrive(now)
        try:
            if not is_inference(request.method, path):
                return await self._pass(request, None)
            with self._metrics.in_flight.track_inprogress():
                return await self._judge(request, Answer(path, now))
        finally:
            self._flow.leave(self._clock())

    async def _judge(self, request: BaseRequest, answer: Answer) -> StreamResponse:
        ending = Ending.ENGINE_CUT  # also of a fault of our own, for which the client gets 500
        try:
            response = await self._pass(request, answer)
            if not (isinstance(response, _Passed) and response.is_cut):
                ending = Ending.COMPLETE
            return response
        except (asyncio.CancelledError, ConnectionError):  # both only when the client is gone
            ending = Ending.CLIENT_LEFT
            raise
        finally:
            self._metrics.observe(answer.end(self._clock(), ending))

    async def _pass(self, request: BaseRequest, answer: Answer | None) -> StreamResponse:
        refusal = _refuses(request)
        if refusal is not None:
            return self._say(400, refusal, answer)
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            upstream = await self._session.request(
                request.method,
                URL(self._engine + request.raw_path, encoded=True),
                headers=_end_to_end(request.headers, _ANSWERED_HERE),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            )
        except ClientError as error:
            return self._say(*self._blame(request, error), answer)
        async with upstream:
            return await self._relay(request, upstream, answer)

    async def _relay(
        self, request: BaseRequest, upstream: ClientResponse, answer: Answer | None
    ) -> StreamResponse:
        response = _Passed(
            status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers)
        )
        if self._flow.is_leaving:
            response.force_close()
        if answer is not None:
            answer.begin(
                upstream.status,
                content_type=upstream.headers.get(hdrs.CONTENT_TYPE, ""),
                is_encoded=hdrs.CONTENT_ENCODING in upstream.headers,
            )
        await response.prepare(request)
        while True:
            try:
                chunk = await upstream.content.readany()
            except (ClientError, ConnectionError):
                response.is_cut = True
                if request.transport is not None:
                    request.transport.close()  # what came is flushed; no end mark: the client sees the cut
                return response
            if not chunk:
                await response.write_eof()
                return response
            now = self._clock()
            await response.write(chunk)
            if answer is not None:
                answer.feed(chunk, now)  # after the write: reading it costs the client nothing

    def _blame(self, request: BaseRequest, error: ClientError) -> tuple[int, str]:
        """Return the status and the sentence for a request that got no answer."""
        if isinstance(error, InvalidURL):
            return 400, "meter: wants a path that is a valid URL, found another; encode it"
        if request.content.exception() is not None:
            return 400, "meter: wants a whole request body, found a broken one; send it again"
        found = type(error).__name__
        if isinstance(error, (ClientConnectorError, ConnectionTimeoutError)):
            return 503, f"meter: wants the engine at {self._engine}, found {found}; wait until it listens"
        return 502, f"meter: wants the engine's answer, found {found}; look at the engine's log"

    def _say(self, status: int, sentence: str, answer: Answer | None) -> Response:
        if answer is not None:
            answer.begin(status)
        body = {"error": {"message": sentence, "type": "meter", "code": status}}
        response = Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
        if self._flow.is_leaving:
            response.force_close()
        return response


class _Passed(StreamResponse):
    """The engine's answer on its way, and whether the engine broke it off."""

    __slots__ = ("is_cut",)

    def __init__(self, *, status: int, reason: str | None, headers: CIMultiDict[str]) -> None:
        super().__init__(status=status, reason=reason, headers=headers)
        self.is_cut = False


def _refuses(request: BaseRequest) -> str | None:
    """Refuse what cannot be passed through.  A wish for h2c may be ignored (RFC 9110, 7.8) and is.

    Some clients send that wish with every request without TLS.
    """
    if not request.raw_path.startswith("/"):
        return "meter: wants a request target that begins with a slash, found another form; ask for a path"
    protocol = request.headers.get(hdrs.UPGRADE, "h2c")
    if protocol.lower() != "h2c":
        return "meter: passes HTTP requests only, found a wish to upgrade; send a plain request"
    return None


def _end_to_end(headers: Mapping[str, str], drop: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """Return *headers* without those that are for one hop, in the same order."""
    named = {name.strip().lower() for name in headers.get(hdrs.CONNECTION, "").split(",")}
    gone = _HOP_BY_HOP | named | drop
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in gone)
