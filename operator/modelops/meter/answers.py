"""Read what an engine's answer says about itself while it passes.  Nothing is kept, changed or delayed.

Fed with the chunks as they come from the wire; where the chunks are cut makes no difference.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

INFERENCE_PATHS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/completion",
        "/generate",
    }
)
_V2_INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")

# These two always say how a stream ended; other dialects may not, so a clean end is believed there.
_PATHS_THAT_MARK_THE_END = frozenset({"/v1/chat/completions", "/v1/completions"})

LONGEST_LINE_BYTES = 2**20
"""A longer line of a stream is not read; it counts as one event with content."""

_LARGEST_COUNT = 10**12  # a token count above this is nonsense and would spoil a counter for good

_PROMPT_KEYS = ("prompt_tokens", "input_tokens", "tokens_evaluated")
_GENERATION_KEYS = ("completion_tokens", "output_tokens", "tokens_predicted")
_DELTA_KEYS = (
    "content", "reasoning_content", "reasoning", "tool_calls", "function_call", "refusal",
    "text", "thinking", "partial_json",
)  # fmt: skip
_LAST_TYPES = frozenset({"message_stop", "response.completed", "response.incomplete"})
_FAILED_TYPES = frozenset({"error", "response.failed"})

# Inside a JSON string every quote has a backslash before it, so these bytes are always a real key.
# The byte after the digits must be there: a number cut by the end of a chunk is read with the next one.
_COUNT = re.compile(
    rb'"(%b)"\s{0,8}:\s{0,8}(\d{1,12})(?=[\s,}])' % "|".join(_PROMPT_KEYS + _GENERATION_KEYS).encode()
)
_LONGEST_COUNT_BYTES = 64


class Ending(StrEnum):
    """How the transport ended: said by whoever moved the bytes."""

    COMPLETE = "complete"
    ENGINE_CUT = "engine cut"
    CLIENT_LEFT = "client left"


class Code(StrEnum):
    """The label ``code`` of ``modelops_requests_total``."""

    OK = "2xx"
    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request adds to the metrics.  Times in seconds; ``None`` observes nothing.

    ``ttft`` runs from the request's arrival to the first content event of a stream, or to the first
    body byte of a whole answer.  ``tpot`` is the mean time of each token after the first, known for
    streams with at least two content events only.  The three times are of successful requests;
    tokens count whatever became of the request.
    """

    code: Code
    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    e2e_seconds: float | None = None
    prompt_tokens: int = 0
    generation_tokens: int = 0


def is_inference(method: str, path: str) -> bool:
    """Tell whether requests to *path* (without query) are judged; all others pass uncounted."""
    return method == "POST" and (path in INFERENCE_PATHS or _V2_INFER.fullmatch(path) is not None)


class Answer:
    """One answer under way.  Instants are seconds on any one clock.

    ``begin`` when the head is there, ``feed`` with each chunk of the body, ``end`` once.  An answer
    that never began has failed.
    """

    __slots__ = ("_arrived", "_first_byte", "_path", "_status", "_stream", "_whole")

    def __init__(self, path: str, arrived: float) -> None:
        self._path = path
        self._arrived = arrived
        self._status: int | None = None
        self._first_byte: float | None = None
        self._stream: _Stream | None = None
        self._whole: _Whole | None = None

    def begin(self, status: int, *, content_type: str = "", is_encoded: bool = False) -> None:
        """Take the head of the answer.  A body with a content coding is not looked into."""
        self._status = status
        if is_encoded:
            return
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self._stream = _Stream()
        else:
            self._whole = _Whole()

    def feed(self, chunk: bytes, now: float) -> None:
        """Look at the next bytes of the body, which came at *now*."""
        if self._first_byte is None and chunk:
            self._first_byte = now
        if self._stream is not None:
            self._stream.feed(chunk, now)
        elif self._whole is not None:
            self._whole.feed(chunk)

    def end(self, now: float, ending: Ending) -> Outcome:
        """Return what the request adds to the metrics."""
        prompt_tokens, generation_tokens = self._tokens()
        code = self._code(ending)
        if code is not Code.OK:
            return Outcome(code, prompt_tokens=prompt_tokens, generation_tokens=generation_tokens)
        first = self._first_byte if self._stream is None else self._stream.first
        return Outcome(
            code,
            ttft_seconds=None if first is None else first - self._arrived,
            tpot_seconds=None if self._stream is None else self._stream.seconds_per_token(generation_tokens),
            e2e_seconds=now - self._arrived,
            prompt_tokens=prompt_tokens,
            generation_tokens=generation_tokens,
        )

    def _code(self, ending: Ending) -> Code:
        stream = self._stream
        if stream is not None and stream.has_failed:
            return Code.SERVER_ERROR
        if ending is Ending.CLIENT_LEFT and not (stream is not None and stream.has_ended):
            return Code.ABORTED
        if self._status is None or self._status >= 500 or ending is Ending.ENGINE_CUT:
            return Code.SERVER_ERROR
        if self._status >= 400:
            return Code.CLIENT_ERROR
        if stream is not None and not stream.has_ended and self._path in _PATHS_THAT_MARK_THE_END:
            return Code.SERVER_ERROR
        return Code.OK

    def _tokens(self) -> tuple[int, int]:
        if self._stream is not None:
            return self._stream.tokens()
        if self._whole is not None:
            return self._whole.counts.get("prompt", 0), self._whole.counts.get("generation", 0)
        return 0, 0


class _Whole:
    """Find the token counts in a JSON body of any size without holding it."""

    __slots__ = ("_tail", "counts")

    def __init__(self) -> None:
        self._tail = b""
        self.counts: dict[str, int] = {}

    def feed(self, chunk: bytes) -> None:
        window = self._tail + chunk
        for found in _COUNT.finditer(window):
            side = "prompt" if found[1].decode() in _PROMPT_KEYS else "generation"
            self.counts[side] = int(found[2])
        self._tail = window[-_LONGEST_COUNT_BYTES:]


class _Stream:
    """Follow server-sent events.  Lines end with LF or CRLF; one data line is one event."""

    __slots__ = (
        "_events_with_content", "_is_skipping", "_last", "_rest", "_timings", "_usage",
        "first", "has_ended", "has_failed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.first: float | None = None
        self.has_ended = False
        self.has_failed = False
        self._last = 0.0
        self._events_with_content = 0
        self._usage: dict[str, int] = {}
        self._timings: dict[str, int] = {}
        self._rest = b""
        self._is_skipping = False

    def feed(self, chunk: bytes, now: float) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if self._is_skipping:
                self._is_skipping = False
            else:
                self._read(line, now)
        if len(self._rest) > LONGEST_LINE_BYTES:
            if not self._is_skipping:
                self._saw_content(now)
            self._rest, self._is_skipping = b"", True

    def tokens(self) -> tuple[int, int]:
        """Return prompt and generated tokens: the engine's usage, else its timings, else the events."""
        prompt = self._usage.get("prompt", self._timings.get("prompt", 0))
        generation = self._usage.get("generation", self._timings.get("generation", self._events_with_content))
        return prompt, generation

    def seconds_per_token(self, generation_tokens: int) -> float | None:
        """Return the mean seconds of each token after the first, where it can be seen."""
        if self.first is None or generation_tokens < 2 or self._events_with_content < 2:
            return None
        return (self._last - self.first) / (generation_tokens - 1)

    def _read(self, line: bytes, now: float) -> None:
        field, colon, value = line.partition(b":")
        if field == b"error" and colon:  # llama.cpp before 2026 names the field, not the event
            self.has_failed = True
        if field != b"data":
            return
        value = value.strip()
        if value == b"[DONE]":
            self.has_ended = True
            return
        try:
            event = json.loads(value)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict):
            self._take(event, now)

    def _take(self, event: dict[str, Any], now: float) -> None:
        if event.get("error") or _is_of(event, _FAILED_TYPES):
            self.has_failed = True
            return
        if any(_contents(event)):
            self._saw_content(now)
        if _is_last(event):
            self.has_ended = True
        for counts in _usages(event):
            _take_counts(counts, self._usage)
        _take_timings(event.get("timings"), self._timings)

    def _saw_content(self, now: float) -> None:
        if self.first is None:
            self.first = now
        self._last = now
        self._events_with_content += 1


def _contents(event: dict[str, Any]) -> Iterator[object]:
    """Yield what may hold generated text, in every dialect of the inference paths."""
    for choice in _dicts(event.get("choices")):
        yield choice.get("text")
        delta = choice.get("delta")
        if isinstance(delta, dict):
            yield from (delta.get(key) for key in _DELTA_KEYS)
    kind = event.get("type")
    if isinstance(kind, str) and kind.endswith(".done"):
        return  # repeats what its deltas brought
    delta = event.get("delta")
    if isinstance(delta, dict):
        yield from (delta.get(key) for key in _DELTA_KEYS)
    else:
        yield delta
    yield event.get("content")
    yield event.get("text")


def _is_last(event: dict[str, Any]) -> bool:
    if event.get("stop") is True:
        return True
    if _is_of(event, _LAST_TYPES):
        return True
    meta = event.get("meta_info")
    if isinstance(meta, dict) and meta.get("finish_reason"):
        return True
    return any(choice.get("finish_reason") for choice in _dicts(event.get("choices")))


def _is_of(event: dict[str, Any], types: frozenset[str]) -> bool:
    kind = event.get("type")
    return isinstance(kind, str) and kind in types


def _usages(event: dict[str, Any]) -> Iterator[object]:
    yield event  # llama.cpp's own completions count at the top level
    yield event.get("usage")
    yield event.get("meta_info")
    for holder in (event.get("message"), event.get("response")):
        if isinstance(holder, dict):
            yield holder.get("usage")


def _take_counts(counts: object, into: dict[str, int]) -> None:
    if not isinstance(counts, dict):
        return
    for side, keys in (("prompt", _PROMPT_KEYS), ("generation", _GENERATION_KEYS)):
        for key in keys:
            value = _count(counts.get(key))
            if value is not None:
                into[side] = value


def _take_timings(timings: object, into: dict[str, int]) -> None:
    """Take llama.cpp's timings, whose ``prompt_n`` leaves out what the cache had."""
    if not isinstance(timings, dict):
        return
    prompt, cached, predicted = (
        _count(timings.get(key, 0)) for key in ("prompt_n", "cache_n", "predicted_n")
    )
    if prompt is not None and cached is not None and predicted is not None:
        into["prompt"], into["generation"] = prompt + cached, predicted


def _count(value: object) -> int | None:
    """Return *value* when it can be a number of tokens; JSON may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        return None
    return value


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
