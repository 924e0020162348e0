"""The program as kubelet runs it: flags, SIGTERM, exit code."""

import argparse
import asyncio
import contextlib
import signal
import sys

import pytest
from aiohttp import ClientConnectorError, ClientSession, web

from modelops.meter import main

PROGRAM = """
import argparse, sys
from modelops.meter import main
parser = argparse.ArgumentParser()
main.add(parser.add_subparsers())
args = parser.parse_args(sys.argv[1:])
code = args.run(args)
assert not {"kopf", "kubernetes"} & {name.partition(".")[0] for name in sys.modules}
sys.exit(code)
"""


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    main.add(parser.add_subparsers())
    return parser.parse_args(["meter", *argv])


def test_the_defaults_are_those_of_the_pod_template():
    args = parse()
    assert args.listen == ("0.0.0.0", 8000)
    assert args.metrics_listen == ("0.0.0.0", 9400)
    assert (args.engine, args.ready_path, args.drain_timeout) == ("http://127.0.0.1:8080", "/health", 600)


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(("--listen", "8000"), id="a port without a host"),
        pytest.param(("--engine", "https://127.0.0.1"), id="TLS to the engine"),
        pytest.param(("--engine", "http://127.0.0.1:8080/v1"), id="an engine with a path"),
        pytest.param(("--ready-path", "health"), id="a path without a slash"),
        pytest.param(("--drain-timeout", "nan"), id="a time that is no number"),
    ],
)
def test_flags_that_are_refused(argv, capsys):
    with pytest.raises(SystemExit):
        parse(*argv)
    assert "wants" in capsys.readouterr().err


def test_sigterm_ends_the_process_after_the_open_stream(unused_ports):
    listen, metrics = unused_ports

    async def story() -> None:
        let_it_end = asyncio.Event()

        async def stream(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
            await let_it_end.wait()
            await response.write(b"data: [DONE]\n\n")
            return response

        app = web.Application()
        app.router.add_post("/v1/chat/completions", stream)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "meter", "--drain-grace", "0",
            "--engine", f"http://127.0.0.1:{runner.addresses[0][1]}",
            "--listen", f"127.0.0.1:{listen}", "--metrics-listen", f"127.0.0.1:{metrics}",
        )  # fmt: skip
        try:
            async with asyncio.timeout(20), ClientSession() as client:
                answer = None
                while answer is None:
                    with contextlib.suppress(ClientConnectorError):
                        answer = await client.post(f"http://127.0.0.1:{listen}/v1/chat/completions")
                    await asyncio.sleep(0.02)
                await answer.content.readany()
                process.send_signal(signal.SIGTERM)
                while (await client.get(f"http://127.0.0.1:{metrics}/readyz")).status != 503:
                    await asyncio.sleep(0.02)
                let_it_end.set()
                assert await answer.content.read() == b"data: [DONE]\n\n"
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await runner.cleanup()

    asyncio.run(story())
