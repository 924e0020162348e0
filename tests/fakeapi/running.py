"""Run the fake API server beside the caller: in a thread of its own, or in a process of its own."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.fakeapi.api import CONTROL, FakeApi

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 900.0
"""A bench stores 40,000 objects by one call, on a machine that may be busy."""


class InThread:
    """A server in a thread; everything about it is done inside of that thread by `do`."""

    def __init__(self, api: FakeApi, loop: asyncio.AbstractEventLoop) -> None:
        self._api = api
        self._loop = loop
        self.url = api.url
        self.configuration = api.configuration

    def do(self, what: Callable[[FakeApi], T]) -> T:
        """Call *what* with the server and return its answer, awaited when it is to be awaited."""

        async def call() -> T:
            answer = what(self._api)
            return await answer if asyncio.iscoroutine(answer) else answer  # type: ignore[no-any-return]

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)


@contextmanager
def in_thread(**more: Any) -> Iterator[InThread]:
    """Yield a server that runs in a thread; *more* goes to `FakeApi`."""
    started: list[InThread] = []
    is_up, over = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with FakeApi(**more) as api:
            started.append(InThread(api, asyncio.get_running_loop()))
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="fake API server")
    thread.start()
    try:
        assert is_up.wait(10), "the fake API server did not start within 10 s"
        yield started[0]
    finally:
        if started:
            started[0]._loop.call_soon_threadsafe(over.set)
        thread.join(10)


class InProcess:
    """A server in another process, spoken to over HTTP."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of `FakeApi` there and return its answer."""
        body = json.dumps({"args": args, "kwargs": kwargs}).encode()
        request = urllib.request.Request(f"{self.url}{CONTROL}{method}", body, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())


@contextmanager
def in_process(port: int = 0) -> Iterator[InProcess]:
    """Yield a server that runs in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakeapi", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the fake API server did not start"
        yield InProcess(url, process.pid)
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()
