"""The stand-in's endpoints, its start-up and its end."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict
from typing import Any, Protocol

from aiohttp import web

from e2e.engine.answers import SHAPES, Shape
from e2e.engine.flags import Settings
from e2e.engine.knobs import Knobs
from e2e.engine.llamacpp import LlamaCpp
from e2e.engine.sglang import SGLang
from e2e.engine.triton import Triton
from e2e.engine.vllm import VLLM
from e2e.engine.work import BrokenOff, Job, Machine

_VLLM_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
_HEALTH = {
    "vllm": ("/health", "/ping"),
    "sglang": ("/health", "/ready", "/health_generate"),
    "llamacpp": ("/health", "/v1/health"),
    "triton": ("/v2/health/live", "/v2/health/ready"),
}
_V2_INFER = "/v2/models/{model}/infer"
_OWN_PATHS = "/stand-in/"
_SGLANG_OPEN = ("/health", "/ready", "/metrics")
_EXIT_BUSY_SECONDS = 10.0  # vLLM after its last stream
_EXIT_IDLE_SECONDS = 1.2
_POLL_SECONDS = 0.05


class Dialect(Protocol):
    """One engine's words."""

    listens_while_loading: bool
    checks_model: bool

    def exposition(self) -> tuple[int, bytes]: ...
    def counted(self, handler: str, method: str, status: int, seconds: float) -> None: ...
    def token(self, job: Job, seconds: float | None) -> None: ...
    def finished(self, job: Job, reason: str) -> None: ...
    def error(self, status: int, message: str) -> dict[str, Any]: ...


_DIALECTS: dict[str, type[VLLM] | type[SGLang] | type[LlamaCpp] | type[Triton]] = {
    "vllm": VLLM,
    "sglang": SGLang,
    "llamacpp": LlamaCpp,
    "triton": Triton,
}


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def serve(settings: Settings, knobs: Knobs) -> int:
    """Run until SIGTERM and whatever the engine does then; return its exit code."""
    terminated = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, terminated.set)
    async with StandIn(settings, knobs) as stand_in:
        await terminated.wait()
        await stand_in.end()
    return 0


class StandIn:
    """The running stand-in.  ``async with`` starts to load, and closes."""

    def __init__(self, settings: Settings, knobs: Knobs) -> None:
        self.machine = Machine(settings, knobs, asyncio.get_running_loop().time)
        self._settings = settings
        self._dialect: Dialect = _DIALECTS[settings.engine](self.machine)
        self._is_loaded = False
        self._loading: asyncio.Task[None] | None = None
        self._streams: list[web.Request] = []
        self._runner = web.AppRunner(
            self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )

    async def __aenter__(self) -> "StandIn":
        await self._runner.setup()
        if self._dialect.listens_while_loading:
            await self._listen()
        self._loading = asyncio.create_task(self._load())
        if self.machine.knobs.startup <= 0:
            await self._loading
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loading is not None:
            self._loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loading
        await self._runner.cleanup()

    @property
    def is_listening(self) -> bool:
        """Whether the port is open yet."""
        return bool(self._runner.addresses)

    @property
    def port(self) -> int:
        """The port in force, also when the flags said 0."""
        port: int = self._runner.addresses[0][1]
        return port

    async def end(self) -> None:
        """Do what the engine does on SIGTERM."""
        match self._settings.engine:
            case "vllm":
                await self._end_vllm()
            case "sglang":
                self.machine.is_draining = True
                await self._until_idle(None)
            case "triton":
                self.machine.is_draining = True
                await self._until_idle(self._settings.shutdown_timeout)
            case _:
                await self._end_llamacpp()

    async def _end_vllm(self) -> None:
        machine, had_work = self.machine, self.machine.open > 0
        if self._settings.shutdown_timeout <= 0:
            if machine.knobs.is_silent:
                machine.is_frozen = True
                await self._until_idle(None)
            else:
                machine.break_off()
                await self._until_idle(1.0)
            return
        machine.is_draining = True
        if not await self._until_idle(self._settings.shutdown_timeout):
            machine.is_frozen = True
            await self._until_idle(None)
        await self._linger(_EXIT_BUSY_SECONDS if had_work else _EXIT_IDLE_SECONDS)

    async def _end_llamacpp(self) -> None:
        if not self.machine.open:
            return
        for request in self._streams:
            if request.transport is not None:
                request.transport.abort()
        await self._linger(self._settings.ping_seconds)

    async def _linger(self, seconds: float) -> None:
        knob = self.machine.knobs.exit
        await asyncio.sleep(seconds if knob < 0 else knob)

    async def _until_idle(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self.machine.open:
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _load(self) -> None:
        await asyncio.sleep(max(0.0, self.machine.knobs.startup))
        self._is_loaded = True
        if not self._dialect.listens_while_loading:
            await self._listen()

    async def _listen(self) -> None:
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
            if self._settings.metrics_port is not None and self._settings.has_metrics:
                await web.TCPSite(self._runner, self._settings.host, self._settings.metrics_port).start()
        except OSError as error:
            print(f"stand-in: couldn't bind HTTP server socket: {error}", file=sys.stderr)
            raise SystemExit(1) from error
        print(f"stand-in: listens as {self._settings.engine} port={self.port}", flush=True)

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._around])
        engine = self._settings.engine
        for path in _HEALTH[engine]:
            app.router.add_get(path, self._health)
        app.router.add_get("/metrics", self._metrics)
        if engine == "triton":
            app.router.add_get("/v2/models/{model}/ready", self._model_ready)
            app.router.add_post(_V2_INFER, self._infer)
        else:
            app.router.add_get("/v1/models", self._models)
            app.router.add_get("/version", self._version)
        if engine == "sglang":
            app.router.add_get("/model_info", self._model_info)
        if engine == "llamacpp":
            app.router.add_get("/slots", self._slots)
        for path, (_, engines) in SHAPES.items():
            if engine in engines:
                app.router.add_post(path, self._generate)
        app.router.add_route("*", "/stand-in/knobs", self._knobs)
        return app

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Load, guard and count as the engine does."""
        began = self.machine.clock()
        response: web.StreamResponse
        try:
            self._admit(request)
            response = await handler(request)
        except _Refused as refused:
            response = web.json_response(
                self._dialect.error(refused.status, str(refused)), status=refused.status
            )
        except web.HTTPException as refused:
            response = web.json_response(
                self._dialect.error(refused.status, refused.reason), status=refused.status
            )
        if not request.path.startswith(_OWN_PATHS):
            seconds = self.machine.clock() - began
            self._dialect.counted(request.path, request.method, response.status, seconds)
        return response

    def _admit(self, request: web.Request) -> None:
        path = request.path
        if path.startswith(_OWN_PATHS):
            return
        if not self._is_loaded:
            raise _Refused(503, "Loading model")
        key = self._settings.api_key
        if key and self._is_guarded(path) and request.headers.get("Authorization") != f"Bearer {key}":
            raise _Refused(401, "Invalid API Key")

    def _is_guarded(self, path: str) -> bool:
        match self._settings.engine:
            case "vllm":
                return path.startswith(_VLLM_GUARDED)
            case "sglang":
                return not path.startswith(_SGLANG_OPEN)
            case _:
                return path != "/health"

    async def _health(self, request: web.Request) -> web.Response:
        if self._settings.engine == "sglang" and self.machine.is_draining:
            return web.Response(status=503)
        return web.json_response({"status": "ok"})

    async def _metrics(self, request: web.Request) -> web.Response:
        status, body = self._dialect.exposition()
        kind = "text/plain; version=0.0.4" if status == 200 else "application/json"
        return web.Response(status=status, body=body, headers={"Content-Type": kind})

    async def _models(self, request: web.Request) -> web.Response:
        models = [
            {"id": name, "object": "model", "owned_by": self._settings.engine,
             "max_model_len": self._settings.context_tokens}
            for name in (*self._settings.names, *self._settings.adapters)
        ]  # fmt: skip
        return web.json_response({"object": "list", "data": models})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.33.0+stand-in"})

    async def _model_info(self, request: web.Request) -> web.Response:
        settings = self._settings
        return web.json_response({"model_path": settings.model, "weight_version": settings.weight_version})

    async def _model_ready(self, request: web.Request) -> web.Response:
        is_known = request.match_info["model"] in self._settings.names
        return web.Response(status=200 if is_known and not self.machine.is_draining else 400)

    async def _infer(self, request: web.Request) -> web.Response:
        """Answer in one piece, after the time to the first token; the sum of each row, as FP32."""
        machine, arrived = self.machine, self.machine.clock()
        if request.match_info["model"] not in self._settings.names:
            raise _Refused(400, f"Request for unknown model: '{request.match_info['model']}' is not found")
        if machine.is_draining:
            raise _Refused(503, "Server is stopping, scheduler for model has stopped accepting requests")
        rows = _rows(await self._body(request))
        job = Job(arrived, prompt_tokens=0, wanted_tokens=1, is_streaming=False)
        machine.open += 1
        reason = "abort"
        try:
            async with machine.slot(job):
                async for _ in machine.tokens(job):
                    pass
            reason = "length"
        finally:
            machine.open -= 1
            self._dialect.finished(job, reason)
        output = {"name": "sum", "datatype": "FP32", "shape": [len(rows)], "data": [sum(row) for row in rows]}
        model = request.match_info["model"]
        return web.json_response({"model_name": model, "model_version": "1", "outputs": [output]})

    async def _slots(self, request: web.Request) -> web.Response:
        busy = len(self.machine.running)
        slots = [
            {"id": slot, "n_ctx": self._settings.context_tokens, "is_processing": slot < busy}
            for slot in range(self.machine.slots)
        ]
        return web.json_response(slots)

    async def _knobs(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            try:
                self.machine.turn(self.machine.knobs.turned(await request.read()))
            except ValueError as error:
                raise _Refused(400, str(error)) from error
        return web.json_response(asdict(self.machine.knobs))

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        machine = self.machine
        arrived = machine.clock()
        body = await self._body(request)
        job = self._job(request.path, body, arrived)
        make, _ = SHAPES[request.path]
        options = body.get("stream_options")
        shape = make(
            self._settings.engine, self._answering(body), job, int(time.time()),
            wants_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )  # fmt: skip
        machine.open += 1
        reason = "abort"
        try:
            async with machine.slot(job):
                response = await (self._stream(request, shape) if job.is_streaming else self._answer(shape))
            reason = "length"
            return response
        except BrokenOff:
            reason = "error"
            raise _Refused(500, "EngineCore encountered an issue.") from None
        except _Broken as broken:
            reason = "error"
            return broken.response
        finally:
            machine.open -= 1
            self._dialect.finished(job, reason)

    def _answering(self, body: dict[str, Any]) -> str:
        """Return the name under which the answer comes: that of an adapter that was asked for."""
        asked = str(body.get("model", ""))
        return asked if asked in self._settings.adapters else self._settings.names[0]

    async def _body(self, request: web.Request) -> dict[str, Any]:
        if self._settings.engine == "vllm" and self.machine.is_draining:
            raise _Refused(500, "EngineCore is shutting down.")
        forced = request.headers.get("X-Stand-In-Error", "")
        if forced.isdecimal() and 400 <= int(forced) <= 599:
            raise _Refused(int(forced), "forced by a header")
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise _Refused(400, "wants a JSON object, found other bytes; send one") from error
        if not isinstance(body, dict):
            raise _Refused(400, "wants a JSON object, found another value; send one")
        names = (*self._settings.names, *self._settings.adapters)
        if self._dialect.checks_model and body.get("model", names[0]) not in names:
            raise _Refused(404, f"The model `{body['model']}` does not exist.")
        if self.machine.happens(self.machine.knobs.error_share):
            raise _Refused(500, "stand-in: fails by its error_share")
        return body

    def _job(self, path: str, body: dict[str, Any], arrived: float) -> Job:
        parameters = body.get("sampling_params")
        nested = parameters if isinstance(parameters, dict) else {}
        wanted = (
            body.get("max_completion_tokens") or body.get("max_tokens") or body.get("n_predict")
            or nested.get("max_new_tokens") or self.machine.knobs.tokens
        )  # fmt: skip
        if not isinstance(wanted, int) or wanted < 1:
            raise _Refused(400, f"max_tokens must be at least 1, got {wanted!r}.")
        prompt_tokens = len(_prompt(body).split()) + 1
        room = self._settings.context_tokens - prompt_tokens
        if room < 1:
            raise _Refused(400, "the request exceeds the available context size, try increasing it")
        return Job(
            arrived=arrived,
            prompt_tokens=prompt_tokens,
            wanted_tokens=min(wanted, room),
            is_streaming=bool(body.get("stream")),
            is_cut=bool(body.get("stream")) and self.machine.happens(self.machine.knobs.cut_share),
        )

    async def _answer(self, shape: Shape) -> web.Response:
        text = ""
        async for word in self._words(shape.job):
            text += word
        return web.json_response(shape.whole(text))

    async def _stream(self, request: web.Request, shape: Shape) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._streams.append(request)
        try:
            for chunk in shape.opening():
                await response.write(_event(chunk))
            async for word in self._words(shape.job):
                await response.write(_event(shape.word(word)))
            for chunk in shape.closing():
                await response.write(_event(chunk))
            if shape.has_done_mark:
                await response.write(b"data: [DONE]\n\n")
        except BrokenOff:
            await self._break(request, response)
            raise _Broken(response) from None
        finally:
            self._streams.remove(request)
        await response.write_eof()
        return response

    async def _break(self, request: web.Request, response: web.StreamResponse) -> None:
        """Break a stream off: llama.cpp cuts, the others send an error inside the 200."""
        if self._settings.engine == "llamacpp":
            if request.transport is not None:
                request.transport.close()
            return
        await response.write(_event(self._dialect.error(500, "EngineCore encountered an issue.")))
        await response.write(b"data: [DONE]\n\n")

    async def _words(self, job: Job) -> Any:
        before: float | None = None
        async for word in self.machine.tokens(job):
            self._dialect.token(job, None if before is None else job.last - before)
            before = job.last
            yield word


class _Broken(Exception):
    """A stream was broken off after its head had been sent."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _rows(body: dict[str, Any]) -> list[list[float]]:
    """Return the rows of the first input tensor, which has two dimensions."""
    try:
        (one,) = body["inputs"]
        height, width = one["shape"]
        data = [float(value) for value in one["data"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _Refused(400, "wants one input of two dimensions, found another body; send one") from error
    if len(data) != height * width:
        raise _Refused(400, f"wants {height * width} values, found {len(data)}; send all")
    return [data[at * width : (at + 1) * width] for at in range(height)]


def _prompt(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    if isinstance(messages, list):
        return " ".join(str(message.get("content", "")) for message in messages if isinstance(message, dict))
    return str(body.get("prompt", body.get("text", "")))
