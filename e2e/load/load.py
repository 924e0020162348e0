"""Send short requests at a fixed rate and keep so many long streams open, with little work per byte."""

import asyncio
import contextlib
import ipaddress
import json
import math
import random
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from e2e.load.report import Fault, Report, Span

_PATH = "/v1/chat/completions"
_FIRST_TOKENS = (64, 256)  # of the streams that measure the speed, the second under the load of the rest
_MOST_UNANSWERED = 256
_RATE_MARGIN = 1.05  # a second then never holds fewer than wanted because of where it begins
_SPEED_WEIGHT = 0.3  # of the newest stream in the running mean of the speed

_COUNT = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')
_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*:\s*"([^"]{0,100})"')
_ERROR = re.compile(rb'data:\s*\{\s*"error"\s*:')
_SHORT_HEADERS = {"Content-Type": "application/json"}
# llama-server closes after a stream without saying so; a next request on that connection would be lost.
_STREAM_HEADERS = {**_SHORT_HEADERS, "Connection": "close"}
_OVERLAP_BYTES = 64
_TAIL_BYTES = 1024  # holds the last events, with the usage


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send.  ``url`` is scheme, host and port; the host a loopback or private address.

    ``stream_seconds`` is how long each stream should last, reached by measuring tokens per second;
    ``stream_tokens`` sets the shortest length instead.  ``most_tokens`` must leave room for the prompt
    in the service's context: streams that the engine ends for want of room all end at once.
    ``spare_streams`` stay open beyond ``streams``, for the moment between the end of one and the first
    byte of the next.  An answer is attributed to what the header ``revision_header`` says, else to its
    ``system_fingerprint``.
    """

    url: str
    model: str
    host_header: str = ""
    rate: float = 20.0
    streams: int = 20
    spare_streams: int = 4
    stream_seconds: float = 15.0
    long_seconds: float = 10.0
    stream_tokens: int = 0
    most_tokens: int = 1800
    short_tokens: int = 2
    silence_seconds: float = 60.0
    answer_seconds: float = 30.0
    finish_seconds: float = 180.0
    revision_header: str = "x-modelops-revision"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not _is_near(parts.hostname or ""):
            raise ValueError(
                f"load: wants http://ADDRESS:PORT with a loopback or private address, found {self.url}; "
                "name the address itself and the host by host_header"
            )


def _is_near(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


class Load:
    """The running load, in a thread of its own between ``start`` and ``stop``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._report = Report(plan.url, plan.model, plan.long_seconds)
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._is_ready = threading.Event()
        self._ramped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._session: ClientSession | None = None
        self._fault: Exception | None = None
        self._began = 0.0
        self._open = 0
        self._speed = 0.0  # tokens per second of one stream under load

    def start(self) -> "Load":
        """Begin to send."""
        self._thread.start()
        self._is_ready.wait()
        return self

    def wait_until_ramped(self, seconds: float) -> bool:
        """Wait until all streams are open; ``False`` when that takes longer than *seconds*."""
        return self._ramped.wait(seconds)

    @property
    def report(self) -> Report:
        """Return the account as it grows; read only."""
        return self._report

    def stop(self) -> Report:
        """Open nothing more, wait for what is open, return the account."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._report

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:  # noqa: BLE001 - raised again by stop(), in the caller's thread
            self._fault = error
        finally:
            self._is_ready.set()

    async def _send(self) -> None:
        plan = self._plan
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._began = monotonic()
        async with ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=30),
            cookie_jar=DummyCookieJar(),
            headers={"Host": plan.host_header} if plan.host_header else None,
            trust_env=False,
        ) as self._session:
            self._is_ready.set()
            workers = [
                asyncio.create_task(self._keep_streaming()) for _ in range(plan.streams + plan.spare_streams)
            ]
            sender = asyncio.create_task(self._keep_asking())
            await self._stopping.wait()
            self._report.stopped_at = self.now()
            await self._let_finish([*workers, sender])

    async def _let_finish(self, tasks: list[asyncio.Task[None]]) -> None:
        _, late = await asyncio.wait(tasks, timeout=self._plan.finish_seconds)
        self._report.stream_unfinished = self._open
        for task in late:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def _is_stopping(self) -> bool:
        return self._stopping is not None and self._stopping.is_set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or return at once when the load stops."""
        assert self._stopping is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()

    async def _keep_asking(self) -> None:
        """Send short requests by the clock, whether answers come or not."""
        if self._plan.rate <= 0:
            return
        unanswered: set[asyncio.Task[None]] = set()
        sent = 0
        while not self._is_stopping:
            await self._sleep(sent / (self._plan.rate * _RATE_MARGIN) - self.now())
            if self._is_stopping:
                break
            sent += 1
            if len(unanswered) >= _MOST_UNANSWERED:
                self._report.held_back += 1
                continue
            task = asyncio.create_task(self._ask())
            unanswered.add(task)
            task.add_done_callback(unanswered.discard)
        if unanswered:
            await asyncio.wait(unanswered)

    async def _ask(self) -> None:
        began = self.now()
        body = b""

        async def read(answer: ClientResponse) -> str:
            nonlocal body
            body = await answer.read()
            if answer.status != 200:
                return "status"
            self.attribute(answer, body)
            return "" if b"data: [DONE]" in body[-_TAIL_BYTES:] else "no end mark"

        limit = ClientTimeout(total=self._plan.answer_seconds)
        status, error = await self._post(self._body(self._plan.short_tokens), limit, read)
        if error:
            self._report.short_failed += 1
            self._report.note(
                Fault("short", began, self.now() - began, status, error, body.decode(errors="replace"))
            )
            return
        self._report.short_ok += 1
        self._report.ok_by_second[int(began)] += 1

    async def _keep_streaming(self) -> None:
        """Open one stream after the other.  The first ones measure the speed and count as no long ones."""
        if not self._plan.stream_tokens:
            for tokens in _FIRST_TOKENS:
                await self._stream(tokens, counts_as_long=False)
        while not self._is_stopping:
            if not await self._stream(self._tokens(), counts_as_long=True) and not self._is_stopping:
                await self._sleep(0.2)  # a service that refuses is asked again, not hammered

    def _tokens(self) -> int:
        """Return the length of the next stream; lengths differ, so that ends do not meet."""
        if self._plan.stream_tokens:
            return round(self._plan.stream_tokens * random.uniform(1.0, 1.3))
        wanted = min(self._plan.stream_seconds * self._speed, self._plan.most_tokens / 1.3)
        return max(_FIRST_TOKENS[0], math.ceil(wanted * random.uniform(0.95, 1.3)))

    async def _stream(self, tokens: int, *, counts_as_long: bool) -> bool:
        """Read one stream to its end; tell whether it was whole."""
        reading = _Reading(self, counts_as_long=counts_as_long)
        began = self.now()
        limit = ClientTimeout(total=None, sock_connect=10, sock_read=self._plan.silence_seconds)
        try:
            status, error = await self._post(self._body(tokens), limit, reading.read)
        finally:
            reading.close()
        if reading.first is not None and counts_as_long:
            self._report.spans.append(Span(reading.first, self.now()))
        if not error:
            self._learn(reading, self.now())
            self._report.stream_ok += counts_as_long
            return True
        was_cut = reading.first is not None and error != "error event"
        if was_cut:
            self._report.stream_cut += 1
        else:
            self._report.stream_failed += 1
        self._report.note(
            Fault("stream", began, self.now() - began, status, error, reading.tail.decode(errors="replace"))
        )
        return False

    def _learn(self, reading: "_Reading", now: float) -> None:
        tokens = reading.tokens
        if reading.first is None or tokens < 2 or now <= reading.first:
            return
        speed = tokens / (now - reading.first)
        self._speed += (speed - self._speed) * (_SPEED_WEIGHT if self._speed else 1.0)

    async def _post(
        self, body: bytes, limit: ClientTimeout, read: Callable[[ClientResponse], Awaitable[str]]
    ) -> tuple[int, str]:
        """Post *body* and *read* the answer; return its status (0: none) and what went wrong, if anything."""
        assert self._session is not None
        status = 0
        try:
            async with self._session.post(
                self._plan.url.rstrip("/") + _PATH,
                data=body,
                headers=_SHORT_HEADERS if limit.total else _STREAM_HEADERS,
                timeout=limit,
            ) as answer:
                status = answer.status
                self._report.statuses[str(status)] += 1
                return status, await read(answer)
        except (ClientError, TimeoutError, OSError) as error:
            if not status:
                self._report.statuses["none"] += 1
            return status, f"{type(error).__name__}: {error}"[:200]

    def _body(self, tokens: int) -> bytes:
        """Return a question for a streamed answer of so many tokens, short ones too, as chats ask."""
        wanted: dict[str, object] = {
            "model": self._plan.model,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(wanted).encode()

    def opened(self, step: int) -> None:
        """Note that one long stream began (1) or ended (-1)."""
        self._open += step
        if self._open >= self._plan.streams + self._plan.spare_streams and not self._ramped.is_set():
            self._report.ramped_at = self.now()
            self._ramped.set()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return monotonic() - self._began

    def attribute(self, answer: ClientResponse, start: bytes) -> None:
        """Count which revision gave *answer*, whose body begins with *start*."""
        found = _FINGERPRINT.search(start)
        fingerprint = found[1].decode(errors="replace") if found else "unknown"
        self._report.answered_by[answer.headers.get(self._plan.revision_header, fingerprint)] += 1


class _Reading:
    """One stream as it is read: when it began, whether its end came, how many tokens it had."""

    def __init__(self, load: Load, *, counts_as_long: bool) -> None:
        self._load = load
        self._counts_as_long = counts_as_long
        self._events = 0
        self._is_open = False
        self.first: float | None = None
        self.tail = b""

    @property
    def tokens(self) -> int:
        """The engine's count, else one per event."""
        found = _COUNT.findall(self.tail)
        return int(found[-1]) if found else self._events

    async def read(self, answer: ClientResponse) -> str:
        """Read to the end; return what went wrong, or nothing."""
        if answer.status != 200:
            self.tail = await answer.read()
            return "status"
        has_failed = False
        async for chunk in answer.content.iter_any():
            if self.first is None:
                self._begin(answer, chunk)
            self._events += chunk.count(b"data:")
            window = self.tail[-_OVERLAP_BYTES:] + chunk
            has_failed = has_failed or _ERROR.search(window) is not None
            self.tail = (self.tail + chunk)[-_TAIL_BYTES:]
        if has_failed:
            return "error event"
        return "" if b"[DONE]" in self.tail else "ended without [DONE]"

    def close(self) -> None:
        """Note the end, whatever it was."""
        if self._is_open:
            self._load.opened(-1)

    def _begin(self, answer: ClientResponse, chunk: bytes) -> None:
        self.first = self._load.now()
        self._load.attribute(answer, chunk)
        if self._counts_as_long:
            self._is_open = True
            self._load.opened(1)
