"""The program ``modelops meter``: two ports, and an end that cuts no answer."""

import argparse
import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import prometheus_client
from aiohttp import ClientError, ClientSession, ClientTimeout
from aiohttp.web import BaseRequest, Response, Server, ServerRunner, StreamResponse, TCPSite
from yarl import URL

from modelops.meter.drain import Flow
from modelops.meter.metrics import Metrics
from modelops.meter.proxy import Proxy, engine_session

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

log = logging.getLogger("modelops.meter")

_POLL_SECONDS = 0.1
_ASK_ENGINE_SECONDS = 5.0
_ENGINE_METRICS_BYTES = 8 * 2**20
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said.  Addresses are (host, port); times are seconds.

    ``quiet`` is how long nothing may have moved before all counts as over.
    """

    listen: tuple[str, int]
    metrics_listen: tuple[str, int]
    engine: str
    ready_path: str = "/health"
    drain_timeout: float = 600.0
    drain_grace: float = 5.0
    quiet: float = 1.0
    engine_metrics: str | None = None


def add(subparsers: "Subparsers") -> None:
    """Add the subcommand ``meter``."""
    parser = subparsers.add_parser("meter", help="pass requests to the engine of this pod and measure them")

    def flag(name: str, kind: Callable[[str], object], default: object, form: str, text: str) -> None:
        parser.add_argument(name, type=kind, default=default, metavar=form, help=text)

    flag("--listen", _address, ("0.0.0.0", 8000), "HOST:PORT", "where clients come (default 0.0.0.0:8000)")
    flag("--engine", _engine, "http://127.0.0.1:8080", "URL", "the engine (default http://127.0.0.1:8080)")
    flag("--metrics-listen", _address, ("0.0.0.0", 9400), "HOST:PORT",
         "/metrics, /healthz, /readyz and /wait-drained (default 0.0.0.0:9400)")  # fmt: skip
    flag("--ready-path", _path, "/health", "PATH", "where the engine says 200 when ready (default /health)")
    flag("--drain-timeout", _seconds, 600.0, "SECONDS", "longest wait after SIGTERM (default 600)")
    flag("--drain-grace", _seconds, 5.0, "SECONDS",
         "how long requests may still arrive when the pod leaves (default 5)")  # fmt: skip
    flag("--engine-metrics", _path, None, "PATH",
         "the engine's own metrics, shown after the meter's (default: not shown)")  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM and the last answer; return 0, or 1 when answers were cut or a port is taken."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    options = Options(
        listen=args.listen,
        metrics_listen=args.metrics_listen,
        engine=args.engine,
        ready_path=args.ready_path,
        drain_timeout=args.drain_timeout,
        drain_grace=args.drain_grace,
        engine_metrics=args.engine_metrics,
    )
    try:
        return asyncio.run(_until_terminated(options))
    except OSError as error:
        log.error("meter: needs its two ports, found %s; free them or change --listen", error)
        return 1


async def _until_terminated(options: Options) -> int:
    terminated = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, terminated.set)
    async with Meter(options) as meter:
        await terminated.wait()
        return await meter.drain()


class Meter:
    """The running meter.  ``async with`` opens and closes both ports."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._clock = asyncio.get_running_loop().time
        self._metrics = Metrics()
        self._flow = Flow(grace_seconds=options.drain_grace, quiet_seconds=options.quiet)
        self._session: ClientSession = engine_session()
        self._runners: list[ServerRunner] = []
        self._is_over = False
        self._pages: dict[str, Callable[[], Awaitable[Response]]] = {
            "/metrics": self._show_metrics,
            "/healthz": self._show_alive,
            "/readyz": self._show_ready,
            "/wait-drained": self._wait_drained,
        }

    async def __aenter__(self) -> "Meter":
        proxy = Proxy(self._options.engine, self._session, self._metrics, self._flow, self._clock)
        try:
            listen = await self._serve(proxy.answer, self._options.listen)
            metrics_listen = await self._serve(self._answer_page, self._options.metrics_listen)
        except OSError:
            await self.__aexit__()
            raise
        self._options = replace(self._options, listen=listen, metrics_listen=metrics_listen)
        log.info("meter: listens port=%d metrics=%d engine=%s",
                 listen[1], metrics_listen[1], self._options.engine)  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True  # lets waiting hooks go
        for runner in self._runners:
            await runner.cleanup()
        await self._session.close()

    @property
    def options(self) -> Options:
        """The options in force, with the ports that port 0 became."""
        return self._options

    async def drain(self) -> int:
        """Turn unready, wait for the last answer, return the exit code.

        Requests are still taken: whoever sends them has not learnt yet that the pod leaves.
        """
        began = self._clock()
        self._flow.is_draining = True
        log.info("meter: drains open=%d timeout=%ds", self._flow.open, self._options.drain_timeout)
        try:
            async with asyncio.timeout(self._options.drain_timeout):
                await self._until_drained(self._flow.leaving_since(began))
        except TimeoutError:
            log.error(
                "meter: waited %d s for open answers, found %d; cut them now, raise --drain-timeout and "
                "the pod's grace period if they are worth it", self._options.drain_timeout, self._flow.open,
            )  # fmt: skip
            return 1
        log.info("meter: drained after=%.1fs", self._clock() - began)
        return 0

    async def _until_drained(self, since: float) -> None:
        while not self._is_over:
            left = self._flow.drained_in(since, self._clock())
            if left == 0:
                return
            await asyncio.sleep(_POLL_SECONDS if left is None else min(left, _POLL_SECONDS))

    async def _serve(
        self, handler: Callable[[BaseRequest], Awaitable[StreamResponse]], address: tuple[str, int]
    ) -> tuple[str, int]:
        server = Server(
            handler,
            handler_cancellation=True,  # a client that leaves takes its request at the engine along
            auto_decompress=False,
            access_log=None,
            logger=_quiet_logger(),
        )
        runner = ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        await TCPSite(runner, *address, backlog=1024).start()
        host, port = runner.addresses[0][:2]
        return host, port

    async def _answer_page(self, request: BaseRequest) -> Response:
        page = self._pages.get(request.path)
        if page is None or request.method not in ("GET", "HEAD"):
            wanted = ", ".join(self._pages)
            return _text(404, f"meter: has GET {wanted} here, found another request; ask for one of them")
        return await page()

    async def _show_alive(self) -> Response:
        return _text(200, "alive")

    async def _show_metrics(self) -> Response:
        body = prometheus_client.generate_latest(self._metrics.registry)
        if self._options.engine_metrics is not None:
            body += await self._engine_metrics(self._options.engine_metrics)
        return Response(body=body, headers={"Content-Type": _TEXT})

    async def _engine_metrics(self, path: str) -> bytes:
        """Return the engine's own exposition, or nothing while it does not answer: ours must go out."""
        try:
            async with self._session.get(
                URL(self._options.engine + path),
                timeout=ClientTimeout(total=_ASK_ENGINE_SECONDS),
                headers={"Accept": "text/plain;version=0.0.4"},
            ) as answer:
                body = await answer.content.read(_ENGINE_METRICS_BYTES) if answer.status == 200 else b""
                while not answer.content.at_eof() and 0 < len(body) < _ENGINE_METRICS_BYTES:
                    body += await answer.content.read(_ENGINE_METRICS_BYTES)
        except (ClientError, TimeoutError):
            return b""
        return body[: body.rfind(b"\n") + 1]

    async def _show_ready(self) -> Response:
        if self._flow.is_draining:
            return _text(503, "meter: wants to serve, found SIGTERM; use another pod")
        where = self._options.engine + self._options.ready_path
        try:
            async with self._session.get(
                URL(where), timeout=ClientTimeout(total=_ASK_ENGINE_SECONDS), allow_redirects=False
            ) as answer:
                status = answer.status
        except (ClientError, TimeoutError) as error:
            return _text(503, f"meter: wants 200 from {where}, found {type(error).__name__}; wait")
        if status != 200:
            return _text(503, f"meter: wants 200 from {where}, found {status}; wait")
        return _text(200, "ready")

    async def _wait_drained(self) -> Response:
        """Answer when all is over: the preStop hook of the engine's container.

        Changes nothing but that answers meanwhile ask their clients to reconnect, so that whoever
        reaches this port cannot take the pod out of service.
        """
        since = self._clock()
        self._flow.waiting += 1
        try:
            await self._until_drained(since)
        finally:
            self._flow.waiting -= 1
        self._flow.waited(since)
        return _text(200, "drained")


def _text(status: int, sentence: str) -> Response:
    return Response(status=status, text=sentence + "\n")


class _NoPayload(logging.Filter):
    """Drop tracebacks of the HTTP library: they quote what clients sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0]:
            record.msg = f"{record.msg} {record.exc_info[0].__name__}"
            record.exc_info = None
        return True


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("modelops.meter.http")
    if not logger.filters:
        logger.addFilter(_NoPayload())
    return logger


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"wants HOST:PORT, found {text}; write for example 0.0.0.0:8000")
    return host.strip("[]"), int(port)


def _engine(text: str) -> str:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme != "http" or not url.host or url.path not in ("", "/") or url.query or url.user:
        raise argparse.ArgumentTypeError(
            f"wants http://HOST:PORT, found {text}; write for example http://127.0.0.1:8080"
        )
    return str(url.origin())


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"wants a path, found {text}; write for example /health")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"wants seconds from 0 to 86400, found {text}; write 600")
    return seconds
