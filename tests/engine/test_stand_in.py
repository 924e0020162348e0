"""The stand-in behaves as its engine does, alone and behind the meter."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientPayloadError, ClientSession

from e2e.engine.flags import read
from e2e.engine.knobs import Knobs
from e2e.engine.server import StandIn
from modelops.meter.main import Meter, Options

QUICK = Knobs(ttft=0.0, itl=0.0, tokens=3, exit=0.0)
LINES = {
    "vllm": "--as vllm serve m --served-model-name chat --host 127.0.0.1 --port 0",
    "sglang": "--as sglang serve --model-path m --served-model-name chat --enable-metrics --port 0",
    "llamacpp": "--as llamacpp -m m -a chat --metrics --port 0 --sse-ping-interval 1",
}
CHAT = "/v1/chat/completions"


@asynccontextmanager
async def stand_in(engine: str, knobs: Knobs = QUICK, more: str = "") -> AsyncIterator[tuple[StandIn, str]]:
    async with StandIn(read(f"{LINES[engine]} {more}".split()), knobs) as running:
        yield running, f"http://127.0.0.1:{running.port}"


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(in_time())


async def samples(client: ClientSession, base: str) -> dict[str, float]:
    async with client.get(f"{base}/metrics") as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    }


def ask(**more: object) -> dict[str, object]:
    return {"model": "chat", "messages": [{"role": "user", "content": "hello there"}], **more}


@pytest.mark.parametrize("engine", LINES)
def test_a_stream_ends_with_a_reason_usage_and_done(engine):
    async def story() -> None:
        async with stand_in(engine) as (_, base), ClientSession() as client:
            body = ask(stream=True, max_tokens=4, stream_options={"include_usage": True})
            async with client.post(base + CHAT, json=body) as answer:
                events = [line[6:] for line in (await answer.text()).splitlines() if line]
        assert events.pop() == "[DONE]"
        chunks = [json.loads(event) for event in events]
        assert chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
        assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks[:-1]) == 4

    run(story)


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        (
            "vllm",
            {
                'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}': 1,
                'vllm:request_success_total{engine="0",finished_reason="length",model_name="chat"}': 1,
                'vllm:request_success_total{engine="0",finished_reason="repetition",model_name="chat"}': 0,
                'vllm:generation_tokens_total{engine="0",model_name="chat"}': 3,
                'vllm:time_to_first_token_seconds_count{engine="0",model_name="chat"}': 1,
                'vllm:inter_token_latency_seconds_count{engine="0",model_name="chat"}': 2,
                'vllm:request_time_per_output_token_seconds_count{engine="0",model_name="chat"}': 1,
            },
        ),
        (
            "sglang",
            {
                'sglang:num_running_reqs{engine_type="unified",model_name="chat",moe_ep_rank="0",'
                'pp_rank="0",tp_rank="0"}': 0,
                'sglang:generation_tokens_total{engine_type="unified",is_streaming="False",'
                'model_name="chat"}': 3,
                'sglang:http_responses_total{endpoint="/v1/completions",method="POST",status_code="200"}': 1,
            },
        ),
        ("llamacpp", {"llamacpp:tokens_predicted_total": 3, "llamacpp:requests_processing": 0}),
    ],
)  # fmt: skip
def test_metrics_speak_the_engines_dialect(engine, names):
    async def story() -> None:
        async with stand_in(engine) as (_, base), ClientSession() as client:
            async with client.post(f"{base}/v1/completions", json={"prompt": "hi"}) as answer:
                assert answer.status == 200
            seen = await samples(client, base)
        assert {name: seen.get(name) for name in names} == names

    run(story)


@pytest.mark.parametrize(
    ("engine", "path", "more", "body", "status"),
    [
        pytest.param("vllm", CHAT, "", b"{", 400, id="vLLM refuses bad JSON"),
        pytest.param("vllm", CHAT, "", b'{"model":"other"}', 404, id="vLLM knows its names"),
        pytest.param("llamacpp", CHAT, "", b'{"model":"other"}', 200, id="llama-server takes any name"),
        pytest.param("vllm", CHAT, "--api-key k", b"{}", 401, id="vLLM guards /v1"),
        pytest.param("vllm", "/metrics", "--api-key k", None, 200, id="vLLM leaves /metrics open"),
        pytest.param("llamacpp", "/metrics", "--api-key k", None, 401, id="llama-server guards /metrics"),
        pytest.param("llamacpp", "/generate", "", b"{}", 404, id="llama-server has no /generate"),
        pytest.param("sglang", "/ready", "", None, 200, id="SGLang has /ready"),
        pytest.param("vllm", "/ready", "", None, 404, id="vLLM has not"),
    ],
)
def test_statuses(engine, path, more, body, status):
    async def story() -> None:
        method = "GET" if body is None else "POST"
        async with stand_in(engine, more=more) as (_, base), ClientSession() as client:
            answer = await client.request(method, base + path, data=body)
            assert answer.status == status

    run(story)


def test_while_loading_vllm_is_not_there_and_the_others_say_503():
    async def story() -> None:
        loading = Knobs(startup=60)
        async with stand_in_loading("vllm", loading) as running:
            assert not running.is_listening
        for engine in ("sglang", "llamacpp"):
            async with stand_in(engine, loading) as (_, base), ClientSession() as client:
                answer = await client.get(f"{base}/health")
                assert answer.status == 503

    run(story)


@asynccontextmanager
async def stand_in_loading(engine: str, knobs: Knobs) -> AsyncIterator[StandIn]:
    async with StandIn(read(LINES[engine].split()), knobs) as running:
        yield running


def test_knobs_turn_while_it_runs():
    async def story() -> None:
        async with stand_in("vllm") as (_, base), ClientSession() as client:
            for share, status in ((1.0, 500), (0.0, 200)):
                async with client.post(f"{base}/stand-in/knobs", json={"error_share": share}) as answer:
                    assert (await answer.json())["error_share"] == share
                async with client.post(base + CHAT, json=ask()) as answer:
                    assert answer.status == status
            async with client.post(f"{base}/stand-in/knobs", json={"nope": 1}) as answer:
                assert answer.status == 400
            async with client.post(base + CHAT, json=ask(), headers={"X-Stand-In-Error": "429"}) as answer:
                assert answer.status == 429

    run(story)


def test_what_finds_no_slot_waits_and_runs_when_one_is_free():
    async def story() -> None:
        slow = Knobs(ttft=30.0, slots=1, exit=0.0)
        async with stand_in("vllm", slow) as (running, base), ClientSession() as client:
            first = asyncio.create_task(client.post(base + CHAT, json=ask()))
            while not running.machine.running:
                await asyncio.sleep(0)
            second = asyncio.create_task(client.post(base + CHAT, json=ask()))
            while not running.machine.waiting:
                await asyncio.sleep(0)
            seen = await samples(client, base)
            assert seen['vllm:num_requests_waiting{engine="0",model_name="chat"}'] == 1
            async with client.post(f"{base}/stand-in/knobs", json={"ttft": 0.0, "itl": 0.0}):
                first.cancel()
            assert (await second).status == 200

    run(story)


async def open_stream(client: ClientSession, base: str):
    answer = await client.post(base + CHAT, json=ask(stream=True, max_tokens=3000))
    await answer.content.readany()
    return answer


SLOW = Knobs(ttft=0.0, itl=0.02, exit=0.0)


def test_sigterm_without_a_timeout_makes_vllm_send_an_error_inside_the_stream():
    async def story() -> None:
        async with stand_in("vllm", SLOW) as (running, base), ClientSession() as client:
            stream = await open_stream(client, base)
            await running.end()
            text = await stream.text()
        assert text.endswith("data: [DONE]\n\n")
        assert '"error":{"message"' in text

    run(story)


def test_sigterm_with_a_timeout_drains_vllm_and_fails_new_requests():
    async def story() -> None:
        more = "--shutdown-timeout 30"
        async with stand_in("vllm", SLOW, more) as (running, base), ClientSession() as client:
            stream = await client.post(base + CHAT, json=ask(stream=True, max_tokens=15))
            await stream.content.readany()
            ending = asyncio.create_task(running.end())
            await asyncio.sleep(0)
            async with client.post(base + CHAT, json=ask()) as answer:
                assert answer.status == 500
            async with client.get(f"{base}/health") as answer:
                assert answer.status == 200
            assert not ending.done()
            assert (await stream.text()).endswith("data: [DONE]\n\n")
            await ending

    run(story)


def test_sigterm_turns_sglang_unready_while_it_drains():
    async def story() -> None:
        async with stand_in("sglang", SLOW) as (running, base), ClientSession() as client:
            stream = await client.post(base + CHAT, json=ask(stream=True, max_tokens=15))
            await stream.content.readany()
            ending = asyncio.create_task(running.end())
            await asyncio.sleep(0)
            async with client.get(f"{base}/ready") as answer:
                assert answer.status == 503
            assert (await stream.text()).endswith("data: [DONE]\n\n")
            await ending

    run(story)


def test_sigterm_makes_llama_server_cut_its_streams():
    async def story() -> None:
        async with stand_in("llamacpp", SLOW) as (running, base), ClientSession() as client:
            stream = await open_stream(client, base)
            await running.end()
            with pytest.raises((ClientPayloadError, ConnectionError)):
                await stream.read()

    run(story)


@asynccontextmanager
async def meter(base: str) -> AsyncIterator[tuple[str, str]]:
    options = Options(("127.0.0.1", 0), ("127.0.0.1", 0), base)
    async with Meter(options) as running:
        seen = running.options
        yield f"http://127.0.0.1:{seen.listen[1]}", f"http://127.0.0.1:{seen.metrics_listen[1]}"


async def settled(client: ClientSession, back: str, wanted: float) -> dict[str, float]:
    """Return the meter's requests by code once *wanted* are counted: that is after the last byte."""
    while True:
        seen = await samples(client, back)
        codes = {
            name[len('modelops_requests_total{code="') : -2]: value
            for name, value in seen.items()
            if name.startswith("modelops_requests_total")
        }
        if sum(codes.values()) == wanted:
            return codes | {"tokens": seen["modelops_generation_tokens_total"]}
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("engine", LINES)
def test_the_meter_counts_what_each_engine_does(engine):
    async def story() -> None:
        async with stand_in(engine) as (_, base), meter(base) as (front, back), ClientSession() as client:
            for body in (ask(), ask(stream=True), ask(stream=True, stream_options={"include_usage": True})):
                async with client.post(front + CHAT, json=body) as answer:
                    await answer.read()
            async with client.post(front + CHAT, data=b"{") as answer:
                assert answer.status == 400
            async with client.post(f"{front}/stand-in/knobs", json={"error_share": 1}):
                pass  # another path: uncounted
            async with client.post(front + CHAT, json=ask()) as answer:
                assert answer.status == 500
            knobs = {"error_share": 0, "cut_share": 1}
            async with client.post(f"{front}/stand-in/knobs", json=knobs):
                pass
            async with client.post(front + CHAT, json=ask(stream=True)) as answer:
                with contextlib.suppress(ClientPayloadError):
                    await answer.read()
            codes = await settled(client, back, 6)
        # three whole answers of three tokens, and two tokens before the break
        assert codes == {"2xx": 3, "4xx": 1, "5xx": 2, "aborted": 0, "tokens": 11}

    run(story)


@pytest.mark.parametrize(
    ("engine", "path", "body", "tokens"),
    [
        ("sglang", "/generate", {"text": "hi", "stream": True}, 3),
        ("llamacpp", "/completion", {"prompt": "hi", "stream": True, "n_predict": 5}, 5),
        ("llamacpp", "/completion", {"prompt": "hi", "n_predict": 5}, 5),
    ],
)
def test_the_meter_reads_the_engines_own_endpoints(engine, path, body, tokens):
    async def story() -> None:
        async with stand_in(engine) as (_, base), meter(base) as (front, back), ClientSession() as client:
            async with client.post(front + path, json=body) as answer:
                await answer.read()
            codes = await settled(client, back, 1)
        assert (codes["2xx"], codes["tokens"]) == (1, tokens)

    run(story)


def test_the_program_takes_its_first_knobs_from_the_environment_and_ends_on_sigterm(tmp_path):
    async def story() -> None:
        (tmp_path / "m.gguf").write_bytes(b"GGUF")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "e2e.engine", "--as", "llamacpp", "--port", "0", "-m",
            str(tmp_path / "m.gguf"),
            env={"STAND_IN_KNOBS": '{"startup": 0.0}', "PYTHONPATH": ":".join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert (await process.stdout.readline()).startswith(b"stand-in: listens as llamacpp")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    run(story)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ("--as llamacpp -m /nowhere.gguf", 1, b"failed to load model"),
        ("--as vllm serve m --nope", 2, b"unrecognized arguments"),
    ],
)
def test_the_program_fails_as_the_engine_does(args, code, words):
    async def story() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "e2e.engine", *args.split(),
            env={"PYTHONPATH": ":".join(sys.path)}, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, err = await process.communicate()
        assert (process.returncode, words in err) == (code, True)

    run(story)
