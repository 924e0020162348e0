"""``python -m tests.bench.loop_server``: the fake API server with what a bench asks beside.

It proves the approval gate, keeps no log but counts, and collects no garbage: with 40,000 objects the
collector would look through all of them for each that goes.
"""

import asyncio
import signal
from collections import Counter
from typing import Any

from modelops.api.names import FIELD_MANAGER
from modelops.governance import policies
from tests.bench.loop_data import Data
from tests.fakeapi.answers import denied
from tests.fakeapi.api import FakeApi
from tests.fakeapi.defaults import filled
from tests.fakeapi.requests import WRITES, Asked
from tests.fakeapi.state import Obj


class BenchApi(FakeApi):
    """The handles that a bench needs."""

    def _begin(self) -> None:
        super()._begin()
        self.landed: Counter[str] = Counter()
        """Writes that changed something, by verb and kind."""
        self.log.keeps = False
        name = policies.APPROVAL
        self.fail("create", "ModelApproval", refusal=denied(name, name, "forged"))
        self.server.on_end = self._ended

    def _ended(self, asked: Asked) -> None:
        if asked.has_landed and asked.verb in WRITES:
            self.landed[f"{asked.verb} {asked.kind}"] += 1

    async def fill(self, what: str, services: int, *, is_realistic: bool = False) -> int:
        """Store a part of what `loop_data.Data` holds and return how many objects.

        *what* is ``around``, ``settled``, or ``bare`` for services without children.
        """
        data = Data(services, is_realistic)
        await asyncio.to_thread(data.prepare)  # it runs event loops of its own
        stored = 0
        for obj in getattr(data, what)():
            self._store(obj)
            stored += 1
            if stored % 200 == 0:
                await asyncio.sleep(0)
        return stored

    def _store(self, obj: Obj) -> None:
        """Store an object with the server's defaults, which nobody owns."""
        bare = self._seed(obj, FIELD_MANAGER)
        found = filled(bare.fresh())
        if found != bare.fresh():
            self.state.commit(self.kind(obj["kind"]), found, bare.owners)

    def counts(self) -> dict[str, Any]:
        """Return writes that changed something, and all requests, since `forget_counts`; leases apart."""
        requests = {f"{verb} {kind}".strip(): n for (verb, kind), n in self.log.counts.items()}
        return {
            "landed": {what: n for what, n in self.landed.items() if not what.endswith(" Lease")},
            "requests": {what: n for what, n in sorted(requests.items()) if not what.endswith(" Lease")},
            "watches": len(self.server.watches.open),
        }

    def forget_counts(self) -> None:
        self.landed.clear()
        self.log.clear()

    def relabel(self, kind: str) -> None:
        """Change a label of every object of a kind: plans have to look, and write nothing."""
        for stored in tuple(self.state.of(self.kind(kind)).values()):
            obj = stored.fresh()
            obj["metadata"].setdefault("labels", {})["bench"] = str(self.state.version)
            self.state.commit(self.kind(kind), obj, stored.owners)

    def remove_all(self, *kinds: str) -> int:
        """Delete every object of the kinds, as if somebody else had."""
        gone = 0
        for kind in kinds:
            for stored in tuple(self.state.of(self.kind(kind)).values()):
                self.state.remove(self.kind(kind), stored)
                gone += 1
        return gone

    def mentions(self, word: str) -> list[str]:
        """Return the objects in which *word* stands anywhere: annotations, finalizers, managers."""
        objects = (stored for found in self.state.objects.values() for stored in found.values())
        return [str(stored.place) for stored in objects if word.encode() in stored.text]

    def bytes_of(self, kind: str) -> int:
        """Return the mean size of the objects of a kind, as the server sends them."""
        texts = [len(stored.text) for stored in self.state.of(self.kind(kind)).values()]
        return sum(texts) // max(1, len(texts))


async def _main() -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with BenchApi(collect_after=None) as api:
        print(api.url, flush=True)
        await over.wait()


if __name__ == "__main__":
    asyncio.run(_main())
