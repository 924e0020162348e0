"""The bodies of the inference endpoints, streamed and whole."""

from collections.abc import Callable
from typing import Any

from e2e.engine.work import Job

SYSTEM_FINGERPRINT = "stand-in"


class Shape:
    """One endpoint's way to write chunks and whole answers.  ``made_at`` is in Unix seconds."""

    def __init__(self, engine: str, model: str, job: Job, made_at: int, *, wants_usage: bool) -> None:
        self.engine = engine
        self.model = model
        self.job = job
        self.made_at = made_at
        self.wants_usage = wants_usage

    def opening(self) -> list[dict[str, Any]]:
        """Return what goes before the first word."""
        return []

    def word(self, text: str) -> dict[str, Any]:
        """Return the chunk with one word."""
        raise NotImplementedError

    def closing(self) -> list[dict[str, Any]]:
        """Return what goes after the last word."""
        return []

    def whole(self, text: str) -> dict[str, Any]:
        """Return the answer in one piece."""
        raise NotImplementedError

    has_done_mark = True

    @property
    def usage(self) -> dict[str, int]:
        """The token counts in the words of the OpenAI protocol."""
        prompt, made = self.job.prompt_tokens, self.job.made
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}

    @property
    def timings(self) -> dict[str, Any]:
        """llama.cpp's own count, in the last chunk and in whole answers."""
        job = self.job
        return {
            "cache_n": 0,
            "prompt_n": job.prompt_tokens,
            "prompt_ms": round((job.first - job.scheduled) * 1e3, 3),
            "predicted_n": job.made,
            "predicted_ms": round((job.last - job.first) * 1e3, 3),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": "cmpl-stand-in",
            "object": kind,
            "created": self.made_at,
            "model": self.model,
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }


class _OpenAI(Shape):
    kind = ""
    chunk_kind = ""

    def _choice(self, text: str | None, finish: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def word(self, text: str) -> dict[str, Any]:
        return {**self._head(self.chunk_kind), "choices": [self._choice(text, None)]}

    def closing(self) -> list[dict[str, Any]]:
        last = {**self._head(self.chunk_kind), "choices": [self._choice(None, "length")]}
        usage = {**self._head(self.chunk_kind), "choices": [], "usage": self.usage}
        chunks = [last, usage] if self.wants_usage else [last]
        if self.engine == "llamacpp":
            chunks[-1]["timings"] = self.timings
        return chunks


class Chat(_OpenAI):
    """/v1/chat/completions."""

    chunk_kind = "chat.completion.chunk"

    def _choice(self, text: str | None, finish: str | None) -> dict[str, Any]:
        delta = {} if text is None else {"content": text}
        return {"index": 0, "delta": delta, "finish_reason": finish}

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": None if self.engine == "llamacpp" else ""}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        return [{**self._head(self.chunk_kind), "choices": [choice]}]

    def whole(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage}


class Text(_OpenAI):
    """/v1/completions."""

    chunk_kind = "text_completion"

    def _choice(self, text: str | None, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text or "", "finish_reason": finish}

    def whole(self, text: str) -> dict[str, Any]:
        choice = self._choice(text, "length")
        return {**self._head(self.chunk_kind), "choices": [choice], "usage": self.usage}


class Generate(Shape):
    """SGLang's /generate: each chunk repeats the text so far."""

    def __init__(self, engine: str, model: str, job: Job, made_at: int, *, wants_usage: bool) -> None:
        super().__init__(engine, model, job, made_at, wants_usage=wants_usage)
        self._text = ""

    def word(self, text: str) -> dict[str, Any]:
        self._text += text
        finish = {"type": "length"} if self.job.made == self.job.wanted_tokens else None
        return self._body(self._text, finish)

    def whole(self, text: str) -> dict[str, Any]:
        return self._body(text, {"type": "length"})

    def _body(self, text: str, finish: dict[str, str] | None) -> dict[str, Any]:
        meta = {
            "id": "stand-in",
            "finish_reason": finish,
            "prompt_tokens": self.job.prompt_tokens,
            "completion_tokens": self.job.made,
        }
        return {"text": text, "meta_info": meta}


class Completion(Shape):
    """llama.cpp's /completion."""

    has_done_mark = False

    def word(self, text: str) -> dict[str, Any]:
        return {"index": 0, "content": text, "stop": False, **self._counts}

    def closing(self) -> list[dict[str, Any]]:
        return [self.whole("")]

    def whole(self, text: str) -> dict[str, Any]:
        return {"index": 0, "content": text, "stop": True, "model": self.model, "timings": self.timings,
                **self._counts}  # fmt: skip

    @property
    def _counts(self) -> dict[str, int]:
        return {"tokens_predicted": self.job.made, "tokens_evaluated": self.job.prompt_tokens}


SHAPES: dict[str, tuple[Callable[..., Shape], frozenset[str]]] = {
    "/v1/chat/completions": (Chat, frozenset({"vllm", "sglang", "llamacpp"})),
    "/v1/completions": (Text, frozenset({"vllm", "sglang", "llamacpp"})),
    "/generate": (Generate, frozenset({"sglang"})),
    "/completion": (Completion, frozenset({"llamacpp"})),
}
