"""Every fault that the fake API server can inject does what it says, to whom it says, as often as it says."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from modelops.clients.errors import Ambiguous, Conflict, Gone, NotFound, Unavailable
from modelops.clients.kinds import resource_of
from modelops.clients.kube import Kube
from modelops.plan import Manifest, Ref
from tests.fakeapi import answers
from tests.fakeapi.api import FakeApi
from tests.fakeapi.faults import Barrier
from tests.fakeapi.running import in_process, in_thread
from tests.faults import virtual

CONFIG_MAPS = resource_of("v1", "ConfigMap")


def config_map(name: str = "c", **labels: str) -> Manifest:
    meta = {"namespace": "n", "name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}}


def ref(name: str = "c") -> Ref:
    return Ref("v1", "ConfigMap", "n", name)


def tell(story: Callable[[FakeApi, Kube], Awaitable[None]]) -> None:
    """Run a story with a server and one client, in virtual time."""

    async def main() -> None:
        async with FakeApi(monotonic=asyncio.get_running_loop().time) as api:
            kube = Kube(api.configuration("a"))
            try:
                await story(api, kube)
            finally:
                await kube.close()

    virtual.run(main())


async def lines(kube: Kube, since: str, count: int, **more: Any) -> list[tuple[str, str]]:
    """Return the next events of a watch."""
    found: list[tuple[str, str]] = []
    stream = kube.watch(CONFIG_MAPS, since, "n", **more)
    async for event in stream:
        found.append((event.type, event.object["metadata"].get("name", "")))
        if len(found) == count:
            break
    await stream.aclose()
    return found


# --- who, what, how often ----------------------------------------------------------------------------


def test_a_fault_hits_whom_it_names_after_what_it_skips_and_so_many_times():
    async def story(api: FakeApi, kube: Kube) -> None:
        other = Kube(api.configuration("b"))
        refusal = answers.busy(503)
        api.fail("apply", "ConfigMap", name="c", identity="a", skips=1, times=2, refusal=refusal)
        await other.apply(config_map())
        await kube.apply(config_map("d"))
        outcomes = []
        for _ in range(4):
            try:
                await kube.apply(config_map())
                outcomes.append("done")
            except Unavailable:
                outcomes.append("refused")
        assert outcomes == ["done", "refused", "refused", "done"]
        assert [(w.identity, w.code) for w in api.log.writes() if w.code == 503] == [("a", 503)] * 2
        await other.close()

    tell(story)


@pytest.mark.parametrize(("is_after", "landed"), [(False, False), (True, True)])
def test_a_drop_is_before_or_after_the_commit(is_after: bool, landed: bool):
    async def story(api: FakeApi, kube: Kube) -> None:
        api.fail("create", drops=True, is_after=is_after)
        with pytest.raises(Ambiguous):
            await kube.create(config_map())
        (write,) = api.log.writes()
        assert write.has_landed is landed
        assert (api.get("ConfigMap", "n", "c") is not None) is landed

    tell(story)


def test_a_delay_takes_as_long_as_it_says_and_a_hanging_request_for_ever():
    async def story(api: FakeApi, kube: Kube) -> None:
        slow = api.fail("get", delay=7.0)
        begun = api.seconds()
        with pytest.raises(NotFound):
            await kube.get(ref())
        assert api.seconds() - begun == pytest.approx(7, abs=0.1)
        api.faults.lift(slow)
        api.fail("get", hangs=True)
        with pytest.raises(Unavailable):
            await kube.get(ref())
        assert api.seconds() - begun > 20

    tell(story)


def test_at_a_barrier_one_client_waits_while_another_writes():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        barrier = Barrier()
        api.fail("apply", identity="a", barrier=barrier)
        version = api.all("ConfigMap")[0]["metadata"]["resourceVersion"]
        wanted = config_map()
        wanted["metadata"]["resourceVersion"] = version
        late = asyncio.create_task(kube.apply({**wanted, "data": {"a": "late"}}))
        await barrier.reached.wait()
        other = Kube(api.configuration("b"))
        await other.apply({**config_map(), "data": {"a": "first"}})
        barrier.open()
        with pytest.raises(Conflict):
            await late
        assert api.all("ConfigMap")[0]["data"] == {"a": "first"}
        await other.close()

    tell(story)


def test_a_write_can_be_the_moment_in_which_the_world_changes():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        api.fail("delete", tells=lambda asked: api.recreate("ConfigMap", "n", "c"))
        uid = api.all("ConfigMap")[0]["metadata"]["uid"]
        with pytest.raises(Conflict):
            await kube.delete(Ref("v1", "ConfigMap", "n", "c", uid))

    tell(story)


# --- lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_list_expires_on_any_page(page: int, monkeypatch):
    monkeypatch.setattr("modelops.clients.kube.PAGE", 2)

    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(*(config_map(f"c{number}") for number in range(6)))
        api.fail("list", page=page, refusal=answers.expired())
        seen = 0
        with pytest.raises(Gone):  # noqa: PT012
            async for _ in kube.pages(CONFIG_MAPS, "n"):
                seen += 1
        assert seen == page

    tell(story)


def test_a_list_that_was_begun_expires_with_its_history(monkeypatch):
    monkeypatch.setattr("modelops.clients.kube.PAGE", 2)

    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(*(config_map(f"c{number}") for number in range(5)))
        pages = kube.pages(CONFIG_MAPS, "n")
        await anext(pages)
        api.compact()
        with pytest.raises(Gone):
            await anext(pages)

    tell(story)


# --- watches -----------------------------------------------------------------------------------------


def test_a_watch_from_before_the_compaction_is_refused_as_a_status():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        api.compact()
        with pytest.raises(Gone):
            await lines(kube, "1000", 1)
        await kube.apply(config_map("d"))
        assert await lines(kube, str(api.state.compacted), 1) == [("ADDED", "d")]

    tell(story)


def test_an_error_event_a_raw_line_and_an_end_reach_open_watches():
    async def story(api: FakeApi, kube: Kube) -> None:
        reading = asyncio.create_task(lines(kube, "1000", 5))
        await asyncio.sleep(1)
        assert api.tell(answers.busy(500), kind="ConfigMap", identity="b") == 0
        assert api.tell(answers.busy(500), kind="ConfigMap", identity="a") == 1
        with pytest.raises(Gone):
            await reading
        reading = asyncio.create_task(lines(kube, "1000", 5))
        await asyncio.sleep(1)
        api.tell(b'{"type":"ADDED","object":{"metadata":{"name":"raw"}}}\n')
        api.end("ConfigMap")
        assert await reading == [("ADDED", "raw")]

    tell(story)


def test_a_stalled_watch_says_nothing_more_and_a_cut_line_is_never_whole():
    async def story(api: FakeApi, kube: Kube) -> None:
        reading = asyncio.create_task(lines(kube, "1000", 1))
        await asyncio.sleep(1)
        assert api.stall() == 1
        api.seed(config_map())
        begun = api.seconds()
        assert await reading == []
        assert api.seconds() - begun >= 70, "ended by the client, after its silence"
        api.fail("watch", line=b'{"type":"ADDED","object":{"meta', times=1)
        assert await lines(kube, "1000", 1) == []
        assert await lines(kube, "1000", 1) == [("ADDED", "c")]

    tell(story)


def test_a_bookmark_comes_each_minute_and_the_watch_ends_when_its_time_is_over():
    async def story(api: FakeApi, kube: Kube) -> None:
        begun = api.seconds()
        found = await lines(kube, str(api.state.version), 100, seconds=130)
        assert [type_ for type_, _ in found] == ["BOOKMARK", "BOOKMARK"]
        assert api.seconds() - begun == pytest.approx(130, abs=1)

    tell(story)


def test_a_silent_deletion_is_seen_by_lists_alone():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map(), config_map("d"))
        version = str(api.state.version)
        api.delete_silently("ConfigMap", "n", "c")
        api.touch("ConfigMap", name="d")
        assert await lines(kube, version, 1) == [("MODIFIED", "d")]
        (page,) = [page async for page in kube.pages(CONFIG_MAPS, "n")]
        assert [item["metadata"]["name"] for item in page.items] == ["d"]

    tell(story)


# --- the whole server --------------------------------------------------------------------------------


def test_the_server_refuses_answers_503_and_hangs_for_a_while():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        await api.refuse()
        other = Kube(api.configuration("new"))
        with pytest.raises(Unavailable):
            await other.get(ref())
        await other.close()
        await api.listen()
        api.away(answers.busy(503, "3"))
        with pytest.raises(Unavailable) as refused:
            await kube.get(ref())
        assert refused.value.retry_after == timedelta(seconds=3)
        api.back()
        api.hang()
        with pytest.raises(Unavailable):
            await kube.get(ref())
        api.back()
        await kube.get(ref())

    tell(story)


def test_a_kind_goes_with_its_objects_and_comes_back_empty():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        reading = asyncio.create_task(lines(kube, "1001", 5))
        await asyncio.sleep(1)
        api.withdraw("ConfigMap")
        assert await reading == [("DELETED", "c")]
        assert not await kube.serves(CONFIG_MAPS)
        api.install(CONFIG_MAPS)
        (page,) = [page async for page in kube.pages(CONFIG_MAPS, "n")]
        assert page.items == ()

    tell(story)


def test_a_reset_leaves_nothing_but_the_address():
    async def story(api: FakeApi, kube: Kube) -> None:
        api.seed(config_map())
        api.fail(refusal=answers.busy())
        api.reset()
        with pytest.raises(NotFound):
            await kube.get(ref())
        assert api.stats()["requests"] == {"get ConfigMap": 1}

    tell(story)


# --- where it runs -----------------------------------------------------------------------------------


def test_it_runs_in_a_thread_of_its_own():
    async def ask(configuration: Any) -> str:
        kube = Kube(configuration)
        try:
            return str((await kube.get(ref()))["metadata"]["name"])
        finally:
            await kube.close()

    with in_thread() as server:
        server.do(lambda api: api.seed(config_map()))
        assert asyncio.run(ask(server.configuration("a"))) == "c"
        assert server.do(lambda api: api.stats()["requests"]) == {"get ConfigMap": 1}


def test_it_runs_in_a_process_of_its_own():
    async def ask(url: str) -> int:
        async with aiohttp.ClientSession(url) as session, session.get("/api/v1/configmaps") as answer:
            return len((await answer.json())["items"])

    with in_process() as server:
        server.call("seed", *(config_map(f"c{number}") for number in range(3)))
        assert asyncio.run(ask(server.url)) == 3
        assert server.call("touch", "ConfigMap") == 3
        server.call("forget", keeps_log=False)
        assert asyncio.run(ask(server.url)) == 3
        assert server.call("stats")["requests"] == {"list ConfigMap": 1}
