"""Three ports, and an end that cuts no answer."""

import asyncio
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import status
from mlserver import MLServer, ModelSettings, Settings
from mlserver.errors import MLServerError
from mlserver.grpc import GRPCServer
from mlserver.handlers import ModelRepositoryHandlers
from mlserver.settings import ModelParameters

from modelops_predictive.predictors.base import Predictor
from modelops_predictive.served import Served

log = logging.getLogger("modelops.predictive")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said about serving; ``drain_seconds`` bounds the wait after SIGTERM."""

    name: str
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    threads: int
    drain_seconds: float


def serve(options: Options, predictor: Predictor) -> int:
    """Serve until SIGTERM and the last answer; return 0, or 1 when a port was taken or answers were cut.

    The loop runs in a thread of its own: in the main thread the HTTP library would take the signals for
    itself and stop one server after the other, the metrics first.
    """
    server = _Server(options)
    code = 1

    def run() -> None:
        nonlocal code
        code = asyncio.run(server.run(options, predictor))

    thread = threading.Thread(target=run, name="serve")
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: server.terminate())
    thread.start()
    thread.join()
    return code


class _Closed(ModelRepositoryHandlers):
    """Leave loading and unloading to nobody: any caller could take the model away."""

    async def index(self, payload):  # type: ignore[no-untyped-def]
        raise _refused()

    async def load(self, name: str) -> bool:
        raise _refused()

    async def unload(self, name: str) -> bool:
        raise _refused()


def _refused() -> MLServerError:
    return MLServerError(
        "repository: is closed, one server serves one version; change the InferenceService",
        status.HTTP_403_FORBIDDEN,
    )


class _PatientGrpc(GRPCServer):
    """Wait for open calls as long as for HTTP, where the library waits 5 s."""

    grace_seconds = 0.0

    async def stop(self, sig: int | None = None) -> None:
        await self._server.stop(grace=self.grace_seconds)


class _Server(MLServer):
    def __init__(self, options: Options) -> None:
        self._drain_seconds = options.drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._terminated = threading.Event()
        super().__init__(
            Settings(
                debug=False,
                host=options.host,
                http_port=options.http_port,
                grpc_port=options.grpc_port,
                metrics_port=options.metrics_port,
                parallel_workers=0,
                load_models_at_startup=False,
                server_name="modelops-predictive",
            )
        )

    def _add_signal_handlers(self) -> None:
        """Leave signals to the main thread."""

    def _create_servers(self) -> None:
        self._model_repository_handlers = _Closed(self._model_repository, self._model_registry)
        super()._create_servers()
        self._grpc_server = _PatientGrpc(self._settings, self._data_plane, self._model_repository_handlers)
        self._grpc_server.grace_seconds = self._drain_seconds

    def terminate(self) -> None:
        """Begin the end; called by the signal handler."""
        self._terminated.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    async def run(self, options: Options, predictor: Predictor) -> int:
        """Serve until ``terminate``, then until the last answer."""
        self._ending = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._terminated.is_set():
            return 0
        with ThreadPoolExecutor(options.threads, thread_name_prefix="answer") as threads:
            parameters = ModelParameters(extra={"predictor": predictor, "threads": threads})
            model = ModelSettings(name=options.name, implementation=Served, parameters=parameters)
            parts = [
                asyncio.create_task(part)
                for part in (
                    self._rest_server.start(),
                    self._grpc_server.start(),
                    self._metrics_server.start(),
                )
            ]
            await self._model_registry.load(model)
            log.info("%s: serves http=%d grpc=%d", options.name, options.http_port, options.grpc_port)
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([ending, *parts], return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                log.error("%s: needs its three ports, found one taken; free it", options.name)
                return 1
            return await self._drain(options, parts)

    async def _drain(self, options: Options, parts: list[asyncio.Task[None]]) -> int:
        """Close HTTP and gRPC after their last answers, then the metrics, for a last scrape."""
        rest, grpc, metrics = parts
        await self._rest_server.stop(signal.SIGTERM)
        stopping = asyncio.create_task(self._grpc_server.stop())
        _, late = await asyncio.wait([rest, grpc, stopping], timeout=options.drain_seconds)
        await self._metrics_server.stop(signal.SIGTERM)
        await asyncio.wait([metrics], timeout=5)
        if late:
            log.error(
                "%s: waited %d s for open answers, found some; cuts them", options.name, options.drain_seconds
            )
            return 1
        log.info("%s: drained", options.name)
        return 0
