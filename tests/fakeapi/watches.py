"""Watches: history first, then what happens; bookmarks; and every way in which a stream goes wrong."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aiohttp import web

from tests.fakeapi import answers
from tests.fakeapi.answers import Refusal
from tests.fakeapi.kinds import Served
from tests.fakeapi.selectors import Matches
from tests.fakeapi.state import Change, State

BOOKMARK_SECONDS = 60.0


class Cut(Exception):
    """The connection is to be cut."""


@dataclass(eq=False)
class Stream:
    """One open watch, and what a test wants of it."""

    kind: Served
    identity: str
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    orders: deque[bytes | type[Cut] | None] = field(default_factory=deque)
    """Lines to send, `Cut` to cut the connection, None to end the stream in good order."""
    is_stalled: bool = False
    """True: nothing is sent any more, and nobody is told."""

    def order(self, what: bytes | type[Cut] | None) -> None:
        self.orders.append(what)
        self.changed.set()


class Watches:
    """All open watches."""

    def __init__(self, state: State, monotonic: Callable[[], float]) -> None:
        self._state = state
        self._monotonic = monotonic
        self.open: set[Stream] = set()

    def start(self, kind: Served, since: str) -> int:
        """Return the place in history from which to stream.

        Raises:
            Refusal: the version is older than what is remembered.
        """
        history = self._state.history(kind)
        if since in ("", "0"):
            return len(history.changes)
        if int(since) < self._state.compacted:
            raise answers.expired(f"too old resource version: {since} ({self._state.compacted})")
        return history.after(int(since))

    async def run(
        self,
        stream: Stream,
        at: int,
        matches: Matches,
        response: web.StreamResponse,
        *,
        seconds: float,
        bookmarks: bool,
    ) -> None:
        """Send lines until the time is over or a test ends it.

        Raises:
            Cut: a test wants the connection cut.
        """
        history = self._state.history(stream.kind)
        history.wakes.add(stream.changed.set)
        self.open.add(stream)
        end = self._monotonic() + seconds
        next_mark = self._monotonic() + BOOKMARK_SECONDS
        try:
            while self._monotonic() < end:
                stream.changed.clear()
                while at < len(history.changes) and not stream.is_stalled:
                    line = _line(history.changes[at], matches)
                    at += 1
                    if line is not None:
                        await response.write(line)
                while stream.orders:
                    await self._obey(stream.orders.popleft(), response)
                if self._monotonic() >= next_mark:
                    next_mark += BOOKMARK_SECONDS
                    if bookmarks and not stream.is_stalled:
                        await response.write(self.bookmark(stream.kind))
                await _until(stream.changed, min(end, next_mark) - self._monotonic())
        except _End:
            return
        finally:
            history.wakes.discard(stream.changed.set)
            self.open.discard(stream)

    def bookmark(self, kind: Served) -> bytes:
        """Return a line that says only how far history got."""
        meta = {"resourceVersion": str(self._state.version)}
        head = {"kind": kind.resource.kind, "apiVersion": kind.resource.api_version, "metadata": meta}
        return json.dumps({"type": "BOOKMARK", "object": head}).encode() + b"\n"

    def of(self, kind: str = "", identity: str = "") -> Iterator[Stream]:
        """Yield the open streams of a kind and an identity; empty: all."""
        for stream in tuple(self.open):
            if kind in ("", stream.kind.resource.kind) and identity in ("", stream.identity):
                yield stream

    async def _obey(self, order: bytes | type[Cut] | None, response: web.StreamResponse) -> None:
        if order is None:
            raise _End
        if isinstance(order, bytes):
            await response.write(order)
            return
        raise Cut


class _End(Exception):
    """The stream ends in good order."""


def error_line(refusal: Refusal) -> bytes:
    """Return the ERROR event that carries *refusal*."""
    return json.dumps({"type": "ERROR", "object": refusal.body()}).encode() + b"\n"


def _line(change: Change, matches: Matches) -> bytes | None:
    """Return the event as this watch sees it: who loses the label is DELETED, who gets it is ADDED."""
    is_in = matches(change.now)
    was_in = change.before is not None and matches(change.before)
    if change.type == "DELETED":
        type_ = "DELETED" if is_in or was_in else ""
    else:
        type_ = {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get(
            (is_in, was_in), ""
        )
    return b'{"type":"%s","object":%s}\n' % (type_.encode(), change.now.text) if type_ else None


async def _until(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await changed.wait()
    except TimeoutError:
        return
