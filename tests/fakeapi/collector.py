"""The garbage collector: what has lost all its owners goes, a while later."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from tests.fakeapi.answers import Refusal
from tests.fakeapi.kinds import Served
from tests.fakeapi.state import Change, State, Stored
from tests.fakeapi.verbs import Write, delete


class Collector:
    """Delete what has lost its owners, *seconds* after the last went; a namespace takes its content along."""

    def __init__(
        self, state: State, kinds: Mapping[tuple[str, str], Served], seconds: Callable[[], float | None]
    ) -> None:
        self._state = state
        self._kinds = kinds
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        state.hooks.append(self._changed)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def collect(self) -> int:
        """Delete what has no owner left, until nothing is found; return how many went."""
        gone = 0
        while found := [one for one in self._all() if self._is_lost(one[1])]:
            for kind, stored in found:
                place = stored.place
                with suppress(Refusal):
                    delete(Write(self._state, kind, place.namespace, place.name), {})
            left = [stored for _, stored in self._all()]
            went = sum(stored not in left for _, stored in found)
            gone += went
            if went == 0:
                break
        return gone

    def _changed(self, change: Change) -> None:
        """Look a while after an object went, and after one came whose owner may be gone already."""
        seconds = self._seconds()
        is_owned = b'"ownerReferences"' in change.now.text
        if seconds is None or not (change.type == "DELETED" or (change.type == "ADDED" and is_owned)):
            return
        task = asyncio.get_running_loop().create_task(self._later(seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.collect()

    def _all(self) -> list[tuple[Served, Stored]]:
        return [(kind, stored) for kind in self._kinds.values() for stored in self._state.of(kind).values()]

    def _is_lost(self, stored: Stored) -> bool:
        if stored.place.namespace and self._is_namespace_gone(stored.place.namespace):
            return True
        if b'"ownerReferences"' not in stored.text:
            return False
        meta = stored.fresh()["metadata"]
        owners = meta.get("ownerReferences") or ()
        return bool(owners) and not meta.get("deletionTimestamp") and not any(map(self._lives, owners))

    def _lives(self, owner: Mapping[str, str]) -> bool:
        """Return whether the owner is there, or is of a kind that nobody knows here."""
        known = [
            kind
            for kind in self._kinds.values()
            if (kind.resource.api_version, kind.resource.kind) == (owner["apiVersion"], owner["kind"])
        ]
        return not known or any(
            stored.uid == owner["uid"] for kind in known for stored in self._state.of(kind).values()
        )

    def _is_namespace_gone(self, namespace: str) -> bool:
        kind = self._kinds["v1", "namespaces"]
        stored = self._state.get(kind, "", namespace)
        return stored is not None and b'"deletionTimestamp"' in stored.text
