"""Whatever ends kopf, the process goes on and loses nothing: the notes on the loop, 2.3 and 3.1."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelops.controllers import shell
from modelops.controllers.machine import forever
from tests.fakeapi import answers
from tests.fakeapi.api import FakeApi
from tests.fakeapi.requests import Asked
from tests.faults.operating import NAMESPACE, WIDGET, Running, operating, retext, tell, widget

WATCH = {"kind": "Widget", "when": lambda asked: asked.verb in ("list", "watch")}
Fault = Callable[[FakeApi], Awaitable[None]]


def error(code: int) -> Fault:
    async def happen(api: FakeApi) -> None:
        assert api.tell(answers.busy(code), kind="Widget") == 1

    return happen


def refuses(refusal: answers.Refusal, seconds: float) -> Fault:
    """Refuse lists and watches for a while, and cut what is open."""

    async def happen(api: FakeApi) -> None:
        fault = api.fail(**WATCH, refusal=refusal)
        api.hang_up("Widget")
        await asyncio.sleep(seconds)
        api.faults.lift(fault)

    return happen


async def away(api: FakeApi) -> None:
    """The server answers 503, but for the Lease: longer than the back-offs of kopf, which are 54 s."""
    fault = api.fail(refusal=answers.busy(503), when=lambda asked: asked.kind != "Lease")
    api.hang_up()
    await asyncio.sleep(150)
    api.faults.lift(fault)


async def kind_gone(api: FakeApi) -> None:
    """The CRD is deleted, and installed again with nothing in it."""
    api.withdraw("Widget")
    await asyncio.sleep(40)
    api.install(WIDGET)


async def dropped(api: FakeApi) -> None:
    assert api.hang_up("Widget") == 1


async def history_gone_in_the_stream(api: FakeApi) -> None:
    api.tell(answers.expired(), kind="Widget")


async def history_gone_as_status(api: FakeApi) -> None:
    api.compact()
    api.hang_up("Widget")


async def silent(api: FakeApi) -> None:
    assert api.stall("Widget") == 1


async def cut_line(api: FakeApi) -> None:
    api.tell(b'{"type":"MODIFIED","object":{"apiVer', kind="Widget")
    api.hang_up("Widget")


@pytest.mark.parametrize(
    ("fault", "restarts"),
    [
        pytest.param(error(500), 1, id="an ERROR event of code 500 ends it"),
        pytest.param(error(429), 1, id="an ERROR event of code 429 ends it"),
        pytest.param(away, 1, id="503 for longer than its back-offs ends it"),
        pytest.param(refuses(answers.forbidden("a", "list", "widgets"), 100), 1, id="a lost right ends it"),
        pytest.param(refuses(answers.not_found("widgets", ""), 30), 1, id="404 ends it at once"),
        pytest.param(dropped, 0, id="a dropped connection is survived"),
        pytest.param(refuses(answers.busy(429, "2"), 20), 0, id="429 as a status is survived"),
        pytest.param(history_gone_in_the_stream, 0, id="410 in the stream is survived"),
        pytest.param(history_gone_as_status, 1, id="410 as a status ends it"),
        pytest.param(silent, 0, id="a stream that is silent for ever is survived"),
        pytest.param(cut_line, 0, id="a line that is cut is survived"),
    ],
)
def test_nothing_is_lost_and_a_signal_still_ends_the_process(fault: Fault, restarts: int, tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.seed(*(widget(name) for name in ("stays", "changes", "goes")))
        begins = asyncio.Event()
        happening = asyncio.create_task(_later(begins, fault, api))  # older than kopf, which spares it then
        async with operating(api, tmp_path, resync="2m") as run:
            await run.synced()
            await run.until(lambda: run.says("goes") == "one")
            await run.until(lambda: len(_of_stays(api)) == 2)
            before = _versions_of_stays(api)
            begins.set()
            await asyncio.sleep(0.01)
            api.delete_silently("Widget", NAMESPACE, "goes")
            api.seed(widget("comes"))
            retext(api, "changes", "two")
            await happening
            await run.until(lambda: run.says("comes") == "one" and run.says("changes") == "two", 300)
            await run.until(lambda: run.knows() == {"stays", "changes", "comes"}, 700)
            await run.until(lambda: not run.kopf.down_since)
            assert (run.kopf.restarts >= 1) == bool(restarts)
            assert run.machine.workers.alive == 8
            assert _versions_of_stays(api) == before, "what did not change stays as it is"
            assert await run.terminate() == 0
            assert api.get(*("Lease", NAMESPACE, "modelops"))["spec"]["holderIdentity"] == ""
            assert run.ends == []

    tell(story)


async def _later(begins: asyncio.Event, fault: Fault, api: FakeApi) -> None:
    await begins.wait()
    await fault(api)


def _versions_of_stays(api: FakeApi) -> list[str]:
    """A repair may apply it again, which changes nothing."""
    return [
        api.get(kind, NAMESPACE, "stays")["metadata"]["resourceVersion"] for kind in ("Widget", "ConfigMap")
    ]


def _of_stays(api: FakeApi) -> list[Asked]:
    return [write for write in api.log.writes() if write.name == "stays"]


def test_a_kind_that_goes_and_comes_back_empty_takes_its_rows_along(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.seed(widget("old"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await kind_gone(api)
            api.seed(widget("new"))
            await run.until(lambda: run.says("new") == "one", 300)
            await run.until(lambda: run.knows() == {"new"}, 700)
            assert await run.terminate() == 0

    tell(story)


def test_an_own_kind_that_is_listed_empty_after_410_gives_no_sign_and_is_swept(tmp_path: Path):
    """With nothing left to list, kopf tells nobody that it listed: only the regular sweep knows."""

    async def story(api: FakeApi) -> None:
        api.seed(widget("only"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            api.tell(answers.expired(), kind="Widget")
            api.delete_silently("Widget", NAMESPACE, "only")
            assert await run.until(lambda: not run.knows(), 700) <= 601
            assert not any(run.machine.workers.sizes)

    tell(story)


# --- the four traps ----------------------------------------------------------------------------------


def test_a_pass_that_is_under_way_when_kopf_ends_is_finished(tmp_path: Path):
    """kopf cancels every task younger than itself: our workers are older, and so is all they wait for."""

    async def story(api: FakeApi) -> None:
        api.seed(widget("w"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await run.until(lambda: run.says("w") == "one")
            api.fail("apply", "ConfigMap", delay=8.0, times=1)
            retext(api, "w", "two")
            await asyncio.sleep(1)
            api.tell(answers.busy(500), kind="Widget")
            await run.until(lambda: run.kopf.restarts == 1)
            await run.until(lambda: run.says("w") == "two")
            await run.synced()
            assert run.machine.workers.alive == 8

    tell(story)


def test_a_worker_that_vanishes_fails_liveness(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await run.synced()
            assert run.operator._lacks_workers() is None
            victim = next(task for task in asyncio.all_tasks() if task.get_name() == "worker 3")
            victim.cancel()
            await asyncio.sleep(0.1)
            assert run.operator._lacks_workers() == "workers: needs 8, found 7"

    tell(story)


def test_a_task_that_was_cancelled_by_nobody_starts_again():
    """What waits for a task that kopf cancelled is hit without having been cancelled."""
    starts: list[int] = []

    async def what() -> None:
        starts.append(1)
        if len(starts) == 1:
            inner = asyncio.create_task(asyncio.sleep(60))
            inner.cancel()
            await inner

    async def story(api: FakeApi) -> None:
        await forever("what", what)

    tell(story)
    assert len(starts) == 2


def test_a_signal_between_two_runs_of_kopf_and_under_its_handlers_is_heard(tmp_path: Path):
    """While kopf starts, its handlers stand over ours: what they swallow ends the process all the same."""

    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await _under_the_handlers_of_kopf(run, asyncio.get_running_loop()._signal_handlers)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await run.status == 0

    tell(story)


async def _under_the_handlers_of_kopf(run: Running, handlers: Mapping[int, Any]) -> None:
    """Wait for the moment in which a signal goes to kopf."""
    while handlers.get(signal.SIGTERM) is None:
        await asyncio.sleep(0)
    ours = handlers[signal.SIGTERM]._callback
    while handlers[signal.SIGTERM]._callback == ours:
        await asyncio.sleep(0)
    assert run.kopf.down_since is not None


def test_kopf_never_kills_the_process_that_survived_it(tmp_path: Path):
    """By default a SIGKILL follows 600 s after kopf ended, whatever runs by then."""

    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await run.synced()
            api.tell(answers.busy(500), kind="Widget")
            await run.until(lambda: run.kopf.restarts == 1)
            await run.synced()
            await asyncio.sleep(1200)
            assert await run.terminate() == 0

    tell(story)
    assert shell.kopf_settings().process.ultimate_exiting_timeout is None
