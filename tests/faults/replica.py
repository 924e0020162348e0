"""One replica of the operator: the real elector, watches, queue, workers, plans and executor.

kopf is replaced by reflectors here: at its end it would cancel the tasks of everybody in this loop.  It has
tests of its own, in a process of its own.
"""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from modelops.clients.kube import Kube
from modelops.controllers import kinds
from modelops.controllers.clock import Clock
from modelops.controllers.context import GATE, GATE_TOPIC
from modelops.controllers.lease import LEASE_API, Elector, Timing
from modelops.controllers.machine import Machine, build
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Kinds, Parts
from modelops.controllers.services import MEASURED
from modelops.controllers.store import Key
from modelops.governance.countersign import GateState
from modelops.plan import Ref
from modelops.serving.status import read_rollout
from modelops.settings import Gate, Settings
from tests.faults.world import World
from tests.serving.cluster import GATE_SINCE, KEY, SETTINGS, counted, step_of

LEASE = Ref(LEASE_API, "Lease", "modelops-system", "modelops")
MEASURE_SECONDS = 1.0


class Line(Kube):
    """A connection of a process that may be frozen: nothing leaves it then."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.flows = asyncio.Event()
        self.flows.set()
        self.writes = 0
        self.freezes_at: int | None = None
        """Number of the write before which the process freezes."""

    async def _exchange(self, request: Any) -> Any:
        if request.verb not in ("get", "list", "watch") and not request.is_free:
            if self.writes == self.freezes_at:
                self.flows.clear()
            self.writes += 1
        await self.flows.wait()
        return await super()._exchange(request)


class Replica:
    """A process: it leads when it can, and ends when it is killed or loses the Lease."""

    def __init__(self, world: World, name: str, settings: dict[str, Any] = SETTINGS) -> None:
        self.world = world
        self.name = name
        self._settings = Settings.model_validate({**settings, "identity": name, "namespace": LEASE.namespace})
        api = world.api
        self.line = Line(api.configuration(name), may_write=lambda: self.elector.leading)
        loop = asyncio.get_running_loop()
        self.elector = Elector(self.line, LEASE, name, Timing(), monotonic=loop.time, wall=api.now)
        self.machine: Machine | None = None
        self.led_at: float | None = None
        self.is_dead = False
        self.wants_to_end = False
        self.jumped = 0.0
        """How far the machine's wall clock is wrong."""
        self._task = loop.create_task(self._run(), name=name)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await self.elector.acquire()
        self.led_at = loop.time()
        clock = Clock(lambda: self.world.api.now().timestamp() + self.jumped, loop.time)
        self.machine = build(
            self._settings,
            self._assemble,
            self.line,
            clock,
            monotonic=loop.time,
            reflects=lambda watched: True,
        )
        working, helping = self.machine.start()
        self._mine = [*working, *helping]
        await self.elector.keep()
        self.wants_to_end = True
        await self.line.flows.wait()  # a frozen process ends when it wakes, not before
        await asyncio.sleep(1.0)  # and has a second for that
        self._end()

    def _assemble(self, parts: Parts) -> Kinds:
        """Return every kind; the gate is proven, and Prometheus says what the world counts."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "keys"
            path.write_text(KEY)
            settings = parts.settings.model_copy(update={"gate": Gate(hmac_key_file=str(path))})
            whole = kinds.assemble(replace(parts, settings=settings))
        parts.observations.put(GATE, GATE_TOPIC, GateState(GATE_SINCE, None))
        kept = tuple(one for one in whole.background if one[0] == "volumes")
        return replace(whole, background=(*kept, ("measuring", lambda: self._measure(parts))))

    async def _measure(self, parts: Parts) -> None:
        """Leave what was counted since the candidate got ready, for every run."""
        while True:
            for row in parts.store.rows("InferenceService"):
                status = loaded(row).get("status") or {}
                state = read_rollout(status)
                found = None
                if state.candidate is not None and state.stable is not None and state.ready_at is not None:
                    seconds = (status.get("rollout") or {}).get("windowSeconds", 60)
                    lasted = parts.clock.now() - state.ready_at
                    closed = max(0, int(lasted / timedelta(seconds=seconds)))
                    origin = int(state.ready_at.timestamp())
                    traffic, step = self.world.traffic, step_of(state)
                    found = counted(state.run_id, origin, seconds, closed, traffic, step=step)
                parts.observations.put(Key("InferenceService", row.namespace, row.name), MEASURED, found)
            parts.clock.adjust()  # as the program does each second
            await asyncio.sleep(MEASURE_SECONDS)

    # --- its end -------------------------------------------------------------------------------------

    def die(self) -> None:
        """End as by SIGKILL: nothing more leaves it, and nobody is told."""
        if self.is_dead:
            return
        self.world.api.fail(identity=self.name, drops=True)
        self._end()
        self._task.cancel()

    def freeze(self) -> None:
        """Stop as by SIGSTOP: nothing more leaves it until `wake`."""
        self.line.flows.clear()

    def wake(self) -> None:
        self.line.freezes_at = None
        self.line.flows.set()

    def _end(self) -> None:
        self.is_dead = True
        for task in getattr(self, "_mine", ()):
            task.cancel()

    async def close(self) -> None:
        """Let go of everything, after the test."""
        self._end()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await asyncio.gather(*getattr(self, "_mine", ()), return_exceptions=True)
        await self.line.close()
