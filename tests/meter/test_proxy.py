"""The meter between a real client and a scripted engine, over the loopback address."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientPayloadError, ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.meter.main import Meter, Options

Script = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CHAT = "/v1/chat/completions"
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def engine(script: Script) -> AsyncIterator[str]:
    """A server that hands the head of each request to *script*, and closes after it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await script(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def meter(where: str, **more: object) -> AsyncIterator[Meter]:
    options = Options(("127.0.0.1", 0), ("127.0.0.1", 0), where, quiet=0.02, drain_grace=0.05)
    async with Meter(replace(options, **more)) as running:
        yield running


def front(running: Meter, path: str = "") -> str:
    return f"http://127.0.0.1:{running.options.listen[1]}{path}"


def back(running: Meter, path: str) -> str:
    return f"http://127.0.0.1:{running.options.metrics_listen[1]}{path}"


async def counts(client: ClientSession, running: Meter) -> dict[str, float]:
    async with client.get(back(running, "/metrics")) as answer:
        text = await answer.text()
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("modelops_"): float(value) for name, value in rows if "_bucket" not in name}


async def settled(client: ClientSession, running: Meter, name: str) -> dict[str, float]:
    """Wait until one request counts under *name*: the meter counts after the client has all bytes."""
    async with asyncio.timeout(2):
        while True:
            seen = await counts(client, running)
            if seen[name]:
                return seen
            await asyncio.sleep(0)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def within_five_seconds() -> None:
        async with asyncio.timeout(5):
            await story()

    asyncio.run(within_five_seconds())


def test_the_first_event_arrives_before_the_last_is_made():
    async def story() -> None:
        first_was_read = asyncio.Event()

        async def script(head, reader, writer):
            writer.write(SSE_HEAD + chunk(EVENT))
            await first_was_read.wait()
            writer.write(chunk(EVENT + DONE) + chunk(b""))
            await writer.drain()

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            async with client.post(front(running, CHAT), json={"stream": True}) as answer:
                assert await answer.content.readany() == EVENT
                first_was_read.set()
                assert await answer.content.read() == EVENT + DONE
            seen = await settled(client, running, 'requests_total{code="2xx"}')
            assert seen["generation_tokens_total"] == 2
            assert seen["request_ttft_seconds_count"] == seen["request_tpot_seconds_count"] == 1
            assert seen["requests_in_flight"] == 0

    run(story)


def test_a_request_body_is_passed_on_before_it_ends():
    async def story() -> None:
        first_part_came = asyncio.Event()

        async def script(head, reader, writer):
            assert b"transfer-encoding: chunked" in head.lower()
            assert await reader.readuntil(b"part one") == b"8\r\npart one"
            first_part_came.set()
            await reader.readuntil(b"0\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async def body():
            yield b"part one"
            await first_part_came.wait()
            yield b"part two"

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            answer = await client.post(front(running, "/v1/files"), data=body())
            assert answer.status == 204

    run(story)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.booleans(), st.binary(max_size=3000))
def test_bytes_are_the_same_with_and_without_the_meter(parts, is_stream, sent):
    async def story() -> None:
        got = b""

        async def script(head, reader, writer):
            nonlocal got
            got = await reader.readexactly(len(sent)) if sent else b""
            body = b"".join(parts)
            if is_stream:
                writer.write(SSE_HEAD + b"".join(map(chunk, parts)) + chunk(b""))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            for base in (where, front(running)):
                async with client.post(base + CHAT, data=sent) as answer:
                    assert await answer.read() == b"".join(parts)
                assert got == sent

    run(story)


def test_heads_pass_but_what_is_for_one_hop_stays():
    async def story() -> None:
        heads = []

        async def script(head, reader, writer):
            heads.append(head)
            writer.write(
                b"HTTP/1.1 418 I am a teapot\r\nServer: engine\r\nX-Hop: gone\r\nConnection: X-Hop\r\n"
                b"Keep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
            )

        sent = {
            "Host": "chat.example", "Authorization": "Bearer x", "X-Mine": "2", "TE": "trailers",
            "Connection": "X-Mine, keep-alive", "Keep-Alive": "9", "Accept-Encoding": "gzip",
        }  # fmt: skip
        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            answer = await client.get(front(running, "/a%2Fb/%C3%A9?q=%20&r=+"), headers=sent)
        assert (answer.status, answer.reason) == (418, "I am a teapot")
        assert answer.headers["Server"] == "engine"
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert "X-Hop" not in answer.headers
        assert "Keep-Alive" not in answer.headers
        lines = heads[0].decode().split("\r\n")
        assert lines[0] == "GET /a%2Fb/%C3%A9?q=%20&r=+ HTTP/1.1"
        names = {line.partition(":")[0].lower() for line in lines[1:] if line}
        assert {"host", "authorization", "accept-encoding"} <= names
        assert not names & {"te", "keep-alive", "x-mine"}
        assert "Host: chat.example" in lines

    run(story)


def test_a_client_that_leaves_takes_its_request_along_and_counts_as_aborted():
    async def story() -> None:
        engine_saw_it = asyncio.Event()

        async def script(head, reader, writer):
            writer.write(SSE_HEAD + chunk(EVENT))
            await reader.readuntil(b"no such bytes")  # ends when the meter closes
            raise AssertionError

        async def watched(head, reader, writer):
            try:
                await script(head, reader, writer)
            except asyncio.IncompleteReadError:
                engine_saw_it.set()

        async with engine(watched) as where, meter(where) as running, ClientSession() as client:
            answer = await client.post(front(running, CHAT), json={})
            assert await answer.content.readany() == EVENT
            answer.close()
            await engine_saw_it.wait()
            seen = await settled(client, running, 'requests_total{code="aborted"}')
            assert seen['requests_total{code="5xx"}'] == seen["request_e2e_seconds_count"] == 0

    run(story)


def test_a_stream_that_the_engine_cuts_is_cut_for_the_client_and_counts_5xx():
    async def story() -> None:
        async def script(head, reader, writer):
            writer.write(SSE_HEAD + chunk(EVENT))
            await writer.drain()

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            answer = await client.post(front(running, CHAT), json={})
            assert await answer.content.readexactly(len(EVENT)) == EVENT
            with pytest.raises(ClientPayloadError):
                await answer.content.read()
            seen = await settled(client, running, 'requests_total{code="5xx"}')
            assert seen["request_ttft_seconds_count"] == 0

    run(story)


@pytest.mark.parametrize(
    ("parts", "connections"),
    [
        pytest.param([SSE_HEAD + chunk(DONE) + chunk(b"")], 3, id="a stream that comes at once"),
        pytest.param([SSE_HEAD + chunk(EVENT), chunk(DONE) + chunk(b"")], 3, id="a stream in two parts"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], 1, id="a whole answer"),
    ],
)
def test_a_connection_is_used_again_only_after_a_whole_answer(parts, connections):
    """llama-server closes after each streamed answer without saying so."""

    async def story() -> None:
        opened = 0

        async def script(head, reader, writer):
            nonlocal opened
            opened += 1
            while head:
                await reader.readexactly(2)
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                head = await reader.readuntil(b"\r\n\r\n")

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            for _ in range(3):
                async with client.post(front(running, CHAT), data=b"{}") as answer:
                    assert answer.status == 200
                    await answer.read()
        assert opened == connections

    run(story)


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        pytest.param(b"", 502, "5xx", id="the engine hangs up"),
        pytest.param(b"HTTP/1.1 nonsense\r\n\r\n", 502, "5xx", id="the engine talks nonsense"),
        pytest.param(b"HTTP/1.1 503 Loading\r\nContent-Length: 0\r\n\r\n", 503, "5xx", id="it loads"),
        pytest.param(b"HTTP/1.1 429 Full\r\nContent-Length: 0\r\n\r\n", 429, "4xx", id="it refuses"),
        pytest.param(
            SSE_HEAD + chunk(EVENT + b'data: {"error":{"code":500}}\n\n' + DONE) + chunk(b""),
            200, "5xx", id="an error inside a 200",
        ),
    ],
)  # fmt: skip
def test_how_an_engine_in_trouble_is_counted(reply, status, code):
    async def story() -> None:
        async def script(head, reader, writer):
            writer.write(reply)

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            async with client.post(front(running, CHAT), json={}) as answer:
                assert answer.status == status
            seen = await settled(client, running, f'requests_total{{code="{code}"}}')
            assert sum(value for name, value in seen.items() if name.startswith("requests_total")) == 1

    run(story)


def test_without_an_engine_the_answer_is_503_and_one_sentence():
    async def story() -> None:
        async with engine(None) as where:
            pass  # nothing listens there any more
        async with meter(where) as running, ClientSession() as client:
            async with client.post(front(running, CHAT), json={}) as answer:
                assert answer.status == 503
                message = json.loads(await answer.read())["error"]["message"]
            assert message.startswith("meter: wants the engine at http://127.0.0.1:")
            async with client.get(back(running, "/readyz")) as answer:
                assert answer.status == 503
            async with client.get(back(running, "/healthz")) as answer:
                assert answer.status == 200

    run(story)


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        pytest.param(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"400", id="a websocket is refused"),
        pytest.param(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"204", id="a wish for h2c is ignored"),
        pytest.param(b"Expect: 100-continue\r\nContent-Length: 0\r\n", b"100", id="a wait is answered"),
        pytest.param(b"X: " + b"x" * 9000 + b"\r\n", b"400", id="a head too long is refused"),
    ],
)
def test_unusual_requests(head, wanted):
    async def story() -> None:
        async def script(head, reader, writer):
            assert b"upgrade" not in head.lower()
            assert b"expect" not in head.lower()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with engine(script) as where, meter(where) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.options.listen[1])
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
            assert (await reader.readline()).split()[1] == wanted
            writer.close()

    run(story)


def test_other_paths_pass_uncounted_and_the_engines_metrics_follow_the_meters():
    async def story() -> None:
        async def script(head, reader, writer):
            body = b"llamacpp:requests_processing 3\nhalf a line"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

        async with (
            engine(script) as where,
            meter(where, engine_metrics="/metrics") as running,
            ClientSession() as client,
        ):
            async with client.get(front(running, "/v1/models")) as answer:
                assert answer.status == 200
            seen = await counts(client, running)
            assert seen["llamacpp:requests_processing"] == 3
            assert all(not value for name, value in seen.items() if name.startswith("requests_total"))
            async with client.get(back(running, "/readyz")) as answer:
                assert answer.status == 200

    run(story)


def test_a_drain_ends_after_the_last_stream_and_late_requests_are_served():
    async def story() -> None:
        let_it_end = asyncio.Event()

        async def script(head, reader, writer):
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                return
            writer.write(SSE_HEAD + chunk(EVENT))
            await let_it_end.wait()
            writer.write(chunk(DONE) + chunk(b""))

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            stream = await client.post(front(running, CHAT), json={})
            await stream.content.readany()
            drain = asyncio.create_task(running.drain())
            await asyncio.sleep(0)
            async with client.get(back(running, "/readyz")) as answer:
                assert answer.status == 503
            async with client.get(front(running, "/late")) as answer:
                assert answer.status == 200
                assert answer.headers["Connection"] == "close"
            assert not drain.done()
            let_it_end.set()
            assert await stream.content.read() == DONE
            assert await drain == 0

    run(story)


def test_a_drain_that_takes_too_long_says_so_and_fails(caplog):
    async def story() -> None:
        async def script(head, reader, writer):
            writer.write(SSE_HEAD + chunk(EVENT))
            await reader.read()

        async with (
            engine(script) as where,
            meter(where, drain_timeout=0.1) as running,
            ClientSession() as client,
        ):
            stream = await client.post(front(running, CHAT), json={})
            await stream.content.readany()
            assert await running.drain() == 1
            stream.close()
        assert "waited 0 s for open answers, found 1" in caplog.text

    run(story)


def test_the_hook_of_the_engine_waits_for_every_stream_and_keeps_the_pod_ready():
    async def story() -> None:
        let_it_end = asyncio.Event()

        async def script(head, reader, writer):
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                return
            writer.write(SSE_HEAD + chunk(EVENT))
            await let_it_end.wait()
            writer.write(chunk(DONE) + chunk(b""))

        async with engine(script) as where, meter(where) as running, ClientSession() as client:
            stream = await client.post(front(running, CHAT), json={})
            await stream.content.readany()
            hook = asyncio.create_task(client.get(back(running, "/wait-drained")))
            async with client.get(front(running, "/late")) as answer:
                assert answer.status == 200
            async with client.get(back(running, "/readyz")) as answer:
                assert answer.status == 200
            done, _ = await asyncio.wait({hook}, timeout=0.3)  # well past grace and quiet time
            assert not done
            let_it_end.set()
            assert await stream.content.read() == DONE
            async with await hook as answer:
                assert (answer.status, await answer.text()) == (200, "drained\n")
            assert await running.drain() == 0  # at once: the grace has been served

    run(story)
