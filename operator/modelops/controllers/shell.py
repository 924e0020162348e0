"""Run kopf for the watches of our own kinds, and survive its ends.  The only module that knows kopf."""

import asyncio
import logging
import random
import signal
from collections.abc import Callable, Iterable
from typing import Any

import kopf
from kubernetes.aio.client.configuration import Configuration

from modelops.controllers import metrics
from modelops.controllers.observe import Observer
from modelops.controllers.seam import Watched
from modelops.controllers.worker import is_requested

log = logging.getLogger(__name__)

_FIRST_SECONDS, _CAP_SECONDS = 1.0, 30.0
_STEADY_SECONDS = 120.0
"""A run of so long begins the back-off anew."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


IDENTITY: Any = "modelops"


class NoDiffBase(kopf.DiffBaseStorage):
    """Keep nothing: kopf's own copies the object on every event.  Legal without changing handlers only."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


class NoProgress(kopf.ProgressStorage):
    """Keep nothing; see `NoDiffBase`."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def configure_logging(*, is_json: bool) -> None:
    """Log to standard error, one line per message; kopf keeps quiet about each event."""
    kopf.configure(log_format=kopf.LogFormat.JSON if is_json else kopf.LogFormat.FULL)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.WARNING)


def kopf_settings() -> kopf.OperatorSettings:
    """Return the settings under which kopf only watches.  Source: the notes on the loop, section 2.2."""
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.queueing.idle_timeout = 0.2
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    # Else a SIGKILL follows 600 s after kopf ended, and hits the process that started it again.
    settings.process.ultimate_exiting_timeout = None
    return settings


def registry_for(
    watched: Iterable[Watched], observer: Observer, configuration: Configuration, relisted: Callable[[], None]
) -> kopf.OperatorRegistry:
    """Return a registry that only watches: `on.event` for each own kind, and the login.

    *relisted* is called whenever kopf tells of an object without a reason: it listed anew, and says
    nothing about those that are gone.
    """
    registry = kopf.OperatorRegistry()

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await _credentials(configuration)

    kopf.on.login(registry=registry, id="login")(login)
    for one in watched:
        if one.is_own:
            _watch(registry, one, observer, relisted)
    return registry


def _watch(
    registry: kopf.OperatorRegistry, watched: Watched, observer: Observer, relisted: Callable[[], None]
) -> None:
    kind = watched.resource.kind
    group, version = watched.resource.api_version.split("/")

    async def observe(event: Any, **_: Any) -> None:  # a returned value would be written to status
        if event["type"] is None:
            relisted()
        observer.observe(kind, event["type"], event["object"])

    plural = watched.resource.plural
    id_ = f"observe-{kind}"
    kopf.on.event(group=group, version=version, plural=plural, registry=registry, id=id_)(observe)


async def _credentials(configuration: Configuration) -> kopf.ConnectionInfo:
    """Return the client's own credentials; kopf asks again when they are refused."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, token = (header or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        trust_env=False,
    )


class Shell:
    """kopf, started again whenever it ends."""

    def __init__(
        self,
        registry: kopf.OperatorRegistry,
        namespaces: tuple[str, ...],
        on_signal: Callable[[], None],
        demand: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._namespaces = namespaces
        self._on_signal = on_signal
        self._demand = demand
        self._stop = asyncio.Event()
        self.restarts = 0
        self.down_since: float | None = _now()
        """Since when kopf does not run, by the monotonic clock; None while it does."""

    def stop(self) -> None:
        """End kopf, for good."""
        self._stop.set()

    async def supervise(self) -> None:
        """Run kopf until `stop`.

        Everything else must have been started before: at its end kopf cancels every task that is
        younger than itself.
        """
        pause = _FIRST_SECONDS
        while not self._stop.is_set():
            started = _now()
            try:
                await self._run()
            except asyncio.CancelledError:
                if is_requested():
                    raise
                log.error("kopf was cancelled by itself; it starts again")
            except Exception as error:  # noqa: BLE001  # whatever ends kopf must not end the process
                log.error("kopf ended: %s; it starts again", f"{type(error).__name__} {error}".rstrip())
            else:
                if not self._stop.is_set():
                    # Without an error only a signal ends it: it came while kopf's handlers stood over ours.
                    self._on_signal()
                    break
            self._ended()
            if _now() - started > _STEADY_SECONDS:
                pause = _FIRST_SECONDS
            await self._rest(pause * random.uniform(1.0, 1.5))
            pause = min(_CAP_SECONDS, pause * 2)

    async def _run(self) -> None:
        ready = asyncio.Event()
        watcher = asyncio.create_task(self._took_over(ready), name="signals after kopf")
        try:
            await kopf.operator(
                registry=self._registry,
                settings=kopf_settings(),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
                ready_flag=ready,
                # kopf else asks the password database for a name, which a container's user need not have.
                identity=IDENTITY,
            )
        finally:
            watcher.cancel()

    async def _took_over(self, ready: asyncio.Event) -> None:
        """Put our signal handlers back once kopf has put its own over them."""
        await ready.wait()
        for _ in range(3):  # kopf installs them one turn of the loop after it is ready
            await asyncio.sleep(0)
        handle_signals(self._on_signal)
        self.down_since = None

    def _ended(self) -> None:
        handle_signals(self._on_signal)  # kopf's point at a future that is dead now
        if self._stop.is_set():
            return
        self.restarts += 1
        metrics.WATCH_RESTARTS.labels("kopf", "failed").inc()
        self.down_since = _now()
        self._demand()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def _now() -> float:
    """Return the loop's monotonic seconds, by which everything here waits too."""
    return asyncio.get_running_loop().time()


def handle_signals(on_signal: Callable[[], None]) -> None:
    """Call *on_signal* on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
