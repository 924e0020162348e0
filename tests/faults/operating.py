"""The whole program, kopf included, with one small kind of its own: a Widget wants a ConfigMap."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from modelops.controllers.main import Operator
from modelops.controllers.seam import Assemble
from modelops.plan import Manifest
from modelops.settings import Settings
from tests.fakeapi.api import FakeApi
from tests.faults import virtual
from tests.integration import loop_program
from tests.integration.loop_program import WIDGET

NAMESPACE = "n"
LEASE = ("Lease", NAMESPACE, "modelops")
SETTLED_SECONDS = 120.0


class Running:
    """One process of the operator, in this event loop."""

    def __init__(
        self, api: FakeApi, operator: Operator, status: "asyncio.Task[int]", ends: list[int]
    ) -> None:
        self.api = api
        self.operator = operator
        self.status = status
        self.ends = ends
        """Statuses with which it wanted to end at once."""

    @property
    def machine(self) -> Any:
        return self.operator._machine

    @property
    def kopf(self) -> Any:
        return self.operator._kopf

    async def until(self, what: Callable[[], Any], seconds: float = SETTLED_SECONDS) -> float:
        """Wait until *what* is true and return the seconds that took."""
        start = self.api.seconds()
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.25)
        return self.api.seconds() - start

    async def synced(self) -> None:
        await self.until(lambda: self.machine and self.machine.synced.is_set() and not self.kopf.down_since)

    def says(self, name: str) -> str | None:
        """Return what the ConfigMap of a Widget says, or None."""
        found = self.api.get("ConfigMap", NAMESPACE, name)
        return found["data"]["text"] if found else None

    def knows(self) -> set[str]:
        """Return the Widgets in the store."""
        return {row.name for row in self.machine.store.rows("Widget")}

    async def terminate(self) -> int:
        """Send SIGTERM and return the status of the end."""
        os.kill(os.getpid(), signal.SIGTERM)
        return await self.status


def widget(name: str, text: str = "one") -> Manifest:
    meta = {"namespace": NAMESPACE, "name": name}
    return {"apiVersion": WIDGET.api_version, "kind": "Widget", "metadata": meta, "spec": {"text": text}}


def retext(api: FakeApi, name: str, text: str) -> None:
    api.edit("Widget", NAMESPACE, name, lambda obj: obj["spec"].update(text=text))


@asynccontextmanager
async def operating(
    api: FakeApi,
    folder: Path,
    identity: str = "a",
    *,
    assemble: Assemble = loop_program.assemble,
    **more: Any,
) -> AsyncIterator[Running]:
    """Yield a running operator; at the end it is cancelled, when it has not ended by itself."""
    path = folder / identity
    user, context = {"name": "u", "user": {"token": identity}}, {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [user],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(config))
    given = {
        "identity": identity,
        "namespace": NAMESPACE,
        "prometheus": {"url": "http://127.0.0.1:1"},
        "images": {"operator": "modelops:test"},
        "metricsPort": 0,
        "probesPort": 0,
    }
    ends: list[int] = []
    settings = Settings.model_validate({**given, **more})
    operator = Operator(settings, assemble, str(path), wall=lambda: api.now().timestamp(), end=ends.append)
    status = asyncio.create_task(operator.run(), name=identity)
    try:
        yield Running(api, operator, status, ends)
    finally:
        if not status.done():
            operator._stop.set()
            async with asyncio.timeout(120):
                await status


def tell(story: Callable[[FakeApi], Any]) -> None:
    """Run a story with a server of Widgets, in virtual time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with FakeApi(monotonic=loop.time, collect_after=1.0) as api:
            api.install(WIDGET)
            api.withdraw("HTTPRoute")
            await story(api)

    virtual.run(main())
