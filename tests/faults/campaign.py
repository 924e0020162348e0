"""Run a story with the operator killed or frozen at one of its writes, and say what became of everything."""

import asyncio
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modelops.plan import Manifest
from modelops.serving.status import read_rollout
from tests.fakeapi.api import FakeApi
from tests.fakeapi.faults import Barrier
from tests.fakeapi.requests import Asked
from tests.faults import virtual
from tests.faults.replica import Replica
from tests.faults.stories import Story, brought
from tests.faults.world import World
from tests.serving.cluster import Cluster

QUIET_SECONDS = 20.0
LIMIT_SECONDS = 900.0
WAKING_SECONDS = 5.0
"""In which a process that woke does what it still does."""
FIRST, SECOND = "first", "second"


class Blow(StrEnum):
    """What happens to the leader at a write."""

    BEFORE = "killed before"
    AFTER = "killed after"
    FROZEN = "frozen before"
    """The process stops before it sends, wakes when the other has finished, and sends what it still may."""
    HELD = "held on the wire"
    """The request was sent; it reaches the server when the other leader has just begun."""
    HELD_LONG = "held on the wire to the end"
    """It reaches the server when the other leader has finished."""


@dataclass(frozen=True)
class Injection:
    """Which blow, at which write of the story; the first is 0."""

    blow: Blow
    write: int

    def __str__(self) -> str:
        return f"{self.blow} write {self.write}"


@dataclass
class Outcome:
    """What a run leaves behind."""

    writes: list[Asked]
    """Of both replicas, since the person acted."""
    final: dict[str, Any]
    outages: list[str]
    stale: list[Asked]
    """What a leader changed after another had begun to lead."""
    is_hit: bool = True
    seconds: float = 0.0
    leaders: int = 1
    log: list[str] = field(default_factory=list)


def run(story: Story, injection: Injection | None = None) -> Outcome:
    """Return what becomes of *story*; the clocks are virtual."""
    random.seed(4)
    given = brought(story.name)  # outside of the loop: the small cluster runs loops of its own
    return virtual.run(_run(story, given, injection))


async def _run(story: Story, given: Cluster, injection: Injection | None) -> Outcome:
    loop = asyncio.get_running_loop()
    async with FakeApi(monotonic=loop.time, start=given.now) as api:
        api.seed(*copy.deepcopy(list(given.server.objects.values())))
        world = World(api, story.traffic)
        everybody = loop.create_task(world.run())
        everybody.add_done_callback(_must_be_cancelled)
        replicas = [Replica(world, FIRST)]
        await _until(lambda: replicas[0].led_at is not None)
        replicas.append(Replica(world, SECOND))
        await _until(lambda: _is_quiet(api, replicas, 10.0))
        try:
            return await _told(story, injection, world, replicas)
        finally:
            everybody.cancel()
            for replica in replicas:
                await replica.close()


def _must_be_cancelled(task: "asyncio.Task[None]") -> None:
    """A world that stops turning fails the test loudly."""
    if not task.cancelled():
        asyncio.get_running_loop().call_exception_handler({"message": "world", "exception": task.exception()})


async def _told(story: Story, injection: Injection | None, world: World, replicas: list[Replica]) -> Outcome:
    api, first = world.api, replicas[0]
    before = [str(write) for write in api.log.writes()]
    api.log.clear()
    started = api.seconds()
    barrier = _strike(api, first, injection) if injection else None
    story.act(api)
    asyncio.get_running_loop().call_later(10.0, setattr, first, "jumped", story.jump)
    await _until(lambda: story.is_done(api) and _is_quiet(api, replicas, QUIET_SECONDS), of=story.name)
    if barrier is not None:
        barrier.open()
        first.wake()
        await asyncio.sleep(WAKING_SECONDS)
        await _until(lambda: _is_quiet(api, replicas, QUIET_SECONDS), of=story.name)
    writes = list(api.log.writes())
    second = replicas[1]
    stale = [w for w in writes if w.identity == FIRST and w.has_landed and _is_later(w, second)]
    return Outcome(
        writes,
        summary(api),
        world.outages,
        stale,
        is_hit=injection is None or first.is_dead,
        seconds=api.seconds() - started,
        leaders=1 + (second.led_at is not None),
        log=before,
    )


def _is_later(write: Asked, second: Replica) -> bool:
    return second.led_at is not None and write.ended is not None and write.ended > second.led_at


def _strike(api: FakeApi, first: Replica, injection: Injection) -> Barrier | None:
    """Prepare the blow; return the barrier that is to be opened when the other leader has finished."""
    chosen: dict[str, Any] = {
        "verb": "write",
        "identity": FIRST,
        "when": lambda asked: asked.kind != "Lease",
        "skips": injection.write,
        "times": 1,
    }
    barrier = Barrier()
    match injection.blow:
        case Blow.BEFORE:
            api.fail(**chosen, tells=lambda asked: first.die(), drops=True)
            return None
        case Blow.AFTER:
            api.fail(**chosen, tells=lambda asked: first.die(), drops=True, is_after=True)
            return None
        case Blow.FROZEN:
            first.line.freezes_at = first.line.writes + injection.write
            return barrier
        case _:
            api.fail(**chosen, tells=lambda asked: first.freeze(), barrier=barrier)
    if injection.blow is Blow.HELD:
        asyncio.get_running_loop().create_task(_open_soon(barrier, first))
    return barrier


async def _open_soon(barrier: Barrier, first: Replica) -> None:
    """Let the request through two seconds after it cannot be the leader's any more."""
    await barrier.reached.wait()
    while first.elector.leading:
        await asyncio.sleep(0.1)
    await asyncio.sleep(8.0)
    barrier.open()


def _is_quiet(api: FakeApi, replicas: list[Replica], seconds: float) -> bool:
    """Return whether somebody leads, knows everything, and has written nothing for a while."""
    leading = [r for r in replicas if r.elector.leading and r.machine and not r.is_dead]
    if not leading or not all(r.machine and r.machine.synced.is_set() for r in leading):
        return False
    if any(r.led_at is None or api.seconds() - r.led_at < seconds for r in leading):
        return False
    landed = [w.at for w in api.log.writes(but=("Lease",)) if w.has_landed]
    return not landed or api.seconds() - landed[-1] >= seconds


async def _until(what: Any, of: str = "the start") -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not what():
            await asyncio.sleep(0.5)


# --- the end -----------------------------------------------------------------------------------------


def summary(api: FakeApi) -> dict[str, Any]:
    """Return what must be the same whenever the operator died: everything but times, uids and counts."""
    out: dict[str, Any] = {}
    for kind in api.kinds.values():
        if kind.resource.kind in ("Event", "Lease"):
            continue
        for obj in api.all(kind.resource.kind):
            meta = obj["metadata"]
            place = f"{kind.resource.kind} {meta.get('namespace', '')}/{meta['name']}"
            out[place] = {
                "labels": meta.get("labels"),
                "annotations": meta.get("annotations"),
                "spec": obj.get("spec"),
                "status": _status(obj) if kind.is_custom else None,
            }
    return out


def _status(obj: Manifest) -> dict[str, Any]:
    """Return what of a status does not depend on when things happened."""
    status = obj.get("status") or {}
    out: dict[str, Any] = {
        "conditions": sorted((c["type"], c["status"], c.get("reason")) for c in _conditions(status)),
        "observedGeneration": status.get("observedGeneration"),
    }
    if obj["kind"] == "InferenceService":
        state = read_rollout(status)
        roles = {name: getattr(state, name) for name in ("stable", "candidate", "previous")}
        records = (status.get("placement") or {}).get("revisions") or ()
        out |= {
            "roles": roles,
            "phase": str(state.phase),
            "weights": (state.weight, state.accepted, state.capacity, state.step),
            "rejected": [r.hash for r in state.rejected],
            "promoted": state.promoted,
            "run": state.run_id,
            "history": [(e["type"], e.get("to"), e.get("weight")) for e in status.get("history", ())],
            "records": records,
            "url": status.get("url"),
        }
    return out


def _conditions(status: Manifest) -> Iterator[Manifest]:
    yield from status.get("conditions") or ()
