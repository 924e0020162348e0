"""A process that is asked to end, a clock that jumps, and kinds that come and go while it runs."""

import asyncio
import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.fakeapi import answers
from tests.fakeapi.api import FakeApi
from tests.faults.campaign import run
from tests.faults.operating import LEASE, NAMESPACE, operating, retext, tell, widget
from tests.faults.stories import STORIES, Story
from tests.integration import loop_program
from tests.integration.loop_program import ROUTE

PROMOTION = next(story for story in STORIES if story.name == "promotion")
CREATE = STORIES[0]


# --- SIGTERM -----------------------------------------------------------------------------------------


def test_a_pass_under_way_is_finished_no_other_is_begun_and_the_lease_is_released(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.seed(widget("w"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await run.until(lambda: run.says("w") == "one")
            api.fail("apply", "Widget", delay=10.0, times=1)
            retext(api, "w", "two")
            await asyncio.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(1)
            api.seed(widget("late"))
            begun = api.seconds()
            assert await run.status == 0
            assert 8 <= api.seconds() - begun <= 15
            assert run.says("w") == "two", "the status was under way: the child follows"
            assert run.says("late") is None
            assert api.get(*LEASE)["spec"]["holderIdentity"] == ""
            assert [w for w in api.log.writes() if w.at > begun and w.name == "late"] == []

    tell(story)


def test_a_pass_that_hangs_holds_up_the_end_for_twenty_seconds_at_most(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.seed(*(widget(f"w{number}") for number in range(3)))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await run.until(lambda: run.says("w2") == "one")
            api.fail("apply", "Widget", hangs=True)
            api.fail("get", "Widget", hangs=True)
            for number in range(3):
                retext(api, f"w{number}", "two")
            await asyncio.sleep(1)
            begun = api.seconds()
            assert await run.terminate() == 0
            assert 18 <= api.seconds() - begun <= 24
            assert api.get(*LEASE)["spec"]["holderIdentity"] == ""

    tell(story)


def test_a_standby_that_is_asked_to_end_ends_at_once_and_lists_nothing(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path, "a") as leader:
            await leader.synced()
            async with operating(api, tmp_path, "b") as standby:
                await asyncio.sleep(30)
                begun = api.seconds()
                standby.operator._stop.set()
                assert await standby.status == 0
                assert api.seconds() - begun < 1
                asked = {(e.verb, e.kind) for e in api.log.entries if e.identity == "b"}
                assert asked <= {("get", "Lease"), ("create", "Lease"), ("update", "Lease")}
                assert api.get(*LEASE)["spec"]["holderIdentity"].startswith("a_")

    tell(story)


def test_a_leader_that_lost_its_lease_ends_without_a_drain_and_without_a_write(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.seed(widget("w"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await run.until(lambda: run.says("w") == "one")
            api.fail(kind="Lease", refusal=answers.busy(503))
            begun = api.seconds()
            await run.until(lambda: run.ends == [1])
            assert api.seconds() - begun <= 10.5
            retext(api, "w", "two")
            await asyncio.sleep(30)  # the test keeps the process alive, as if it were slow to end
            assert run.says("w") == "one"
            assert [w for w in api.log.writes() if w.at > begun + 10.5] == []

    tell(story)


# --- the wall clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "jump", [pytest.param(3600.0, id="an hour ahead"), pytest.param(-3600.0, id="an hour back")]
)
def test_a_jump_of_the_wall_clock_neither_shortens_nor_lengthens_a_step(jump: float):
    """The story waits for the dwell of its last step, then for the pods of the old version to go."""
    calm = run(PROMOTION)
    jumped = run(replace(PROMOTION, jump=jump))
    assert jumped.outages == []
    assert jumped.seconds == pytest.approx(calm.seconds, abs=0.06 * calm.seconds + 2)
    assert jumped.final == calm.final


# --- child kinds -------------------------------------------------------------------------------------


def test_a_child_kind_that_is_installed_later_is_found_within_a_minute_and_what_waited_for_it_is_made():
    """Gateway API is not there when the service comes."""
    seen: dict[str, float] = {}

    def without_gateway(api: FakeApi) -> None:
        api.withdraw("HTTPRoute")
        CREATE.act(api)
        asyncio.get_running_loop().call_later(200, install, api)

    def install(api: FakeApi) -> None:
        seen["installed"] = api.seconds()
        (service,) = api.all("InferenceService")
        seen["told"] = "KindAbsent" in {c["reason"] for c in service["status"]["conditions"]}
        seen["pods"] = len(api.all("Pod"))
        api.install(ROUTE)

    def is_done(api: FakeApi) -> bool:
        return "installed" in seen and CREATE.is_done(api)

    outcome = run(Story("create", CREATE.given, without_gateway, is_done))
    assert seen["told"], "the condition says what is missing"
    assert seen["pods"], "the pods came all the same"
    (first, *_) = [w for w in outcome.writes if w.kind == "HTTPRoute" and w.has_landed]
    assert first.at - seen["installed"] <= 62
    assert outcome.final == run(CREATE).final
    asked = [w for w in outcome.writes if w.kind == "HTTPRoute" and not w.has_landed]
    pauses = [b.at - a.at for a, b in pairwise(asked)]
    assert len(asked) < 20, "it is not asked for in a storm"
    assert not pauses or max(pauses) > 30


def test_a_child_kind_that_is_removed_takes_its_rows_along_and_ends_nothing(tmp_path: Path):
    async def story(api: FakeApi) -> None:
        api.install(ROUTE)
        route = {"apiVersion": ROUTE.api_version, "kind": "HTTPRoute", "metadata": {"namespace": NAMESPACE}}
        route["metadata"]["name"] = "r"
        api.seed(widget("w"), {**route, "spec": {}})
        async with operating(api, tmp_path, assemble=loop_program.assemble) as run:
            await run.synced()
            assert [row.name for row in run.machine.store.rows("HTTPRoute")] == ["r"]
            api.withdraw("HTTPRoute")
            await run.until(lambda: not list(run.machine.store.rows("HTTPRoute")))
            retext(api, "w", "two")
            await run.until(lambda: run.says("w") == "two")
            assert run.operator._is_blind() is None, "an absent optional kind is no blind spot"
            api.install(ROUTE)
            api.seed({**route, "spec": {}})
            await run.until(lambda: [row.name for row in run.machine.store.rows("HTTPRoute")] == ["r"])
            assert await run.terminate() == 0

    tell(story)
