"""The watch of a child kind, against a server that answers as the test says."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from modelops.controllers.reflector import Reflector
from modelops.controllers.store import Unseen
from tests.clients.scripted import connected, refusal
from tests.controllers.little import WATCHED, Little, obj

CONFIG_MAPS = WATCHED[1]


def page(*items, version="10", more=None):
    meta = {"resourceVersion": version, **({"continue": more} if more else {})}
    return web.json_response({"metadata": meta, "items": list(items)})


def event(type_, item):
    return {"type": type_, "object": item}


def config_map(name, version):
    return obj("ConfigMap", name, f"uid-{name}", version, owner="w")


class Story:
    """Answers in turn; the reflector is stopped at the first request that no answer is left for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.little = Little()
        self.pauses = []
        self.asked = []

    def tell(self, *, watched=CONFIG_MAPS):
        asyncio.run(self._tell(watched))
        return self

    async def _tell(self, watched):
        self.over = asyncio.Event()
        async with connected(self._answer) as (kube, server):
            self.reflector = Reflector(
                kube, watched, self.little.store, self.little.observer, sleep=self._sleep
            )
            task = asyncio.create_task(self.reflector.run())
            await self.over.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()
            self.asked = server.asked

    async def _sleep(self, seconds):
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def _answer(self, asked):
        if not self.answers:
            self.over.set()
            await asyncio.sleep(10)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(asked)
        return answer if isinstance(answer, web.StreamResponse) else await answer

    @property
    def names(self):
        return sorted(row.name for row in self.little.store.rows("ConfigMap"))

    @property
    def watched_from(self):
        return [asked.query["resourceVersion"] for asked in self.asked if "watch" in asked.query]


def stream(*events):
    return lambda asked: asked.stream(*events)


def test_it_lists_every_page_and_watches_from_the_version_of_the_list():
    first = page(config_map("a", 1), version="10", more="next")
    story = Story(first, page(config_map("b", 2))).tell()
    assert story.names == ["a", "b"]
    assert story.asked[1].query["continue"] == "next"
    assert story.watched_from == ["10"]
    assert story.reflector.synced.is_set()
    assert story.reflector.down_since is None


def test_it_follows_changes_and_goes_on_from_the_last_version_it_saw():
    changes = stream(
        event("ADDED", config_map("b", 11)),
        event("DELETED", config_map("a", 12)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "40"}}),
    )
    story = Story(page(config_map("a", 1)), changes).tell()
    assert story.names == ["b"]
    assert story.watched_from == ["10", "40"]
    assert [asked.query["labelSelector"] for asked in story.asked] == ["a=b"] * 3


def test_what_was_deleted_while_nobody_watched_is_dropped_by_the_next_list():
    story = Story(page(config_map("a", 1), config_map("b", 2)), refusal(410), page(config_map("b", 2)))
    assert story.tell().names == ["b"]


def test_any_error_event_leads_to_a_new_list():
    for code in (410, 429, 500):
        error = stream(event("ERROR", {"code": code, "message": "x"}))
        story = Story(page(config_map("a", 1)), error, page(version="20")).tell()
        assert story.names == []
        assert story.watched_from == ["10", "20"]


def test_a_list_that_expires_on_the_way_starts_over_and_drops_nothing_too_much():
    story = Story(
        page(config_map("a", 1), config_map("b", 2)),
        refusal(410),
        page(config_map("a", 1), version="20", more="next"),
        refusal(410),
        page(config_map("b", 2), version="30"),
    )
    assert story.tell().names == ["b"]


def test_a_row_newer_than_the_list_is_kept_since_it_is_of_a_write_of_ours():
    story = Story(page(version="10"))
    story.little.observer.observe("ConfigMap", "MODIFIED", config_map("new", 11))
    assert story.tell().names == ["new"]


def test_errors_are_waited_out_longer_each_time_and_the_server_is_obeyed():
    busy = refusal(429, headers={"Retry-After": "9"})
    story = Story(refusal(503), refusal(503), refusal(403, "no"), busy, page()).tell()
    first, second, third, fourth = story.pauses
    assert 0.15 < first < 0.25 < second < 0.5 < third < 1.0
    assert fourth == 9
    assert story.reflector.down_since is None


def test_a_server_that_is_gone_is_down_since_the_first_failure():
    story = Story(page(), lambda asked: asked.cut(), refusal(503)).tell()
    assert story.reflector.down_since is not None


def test_an_optional_kind_that_is_absent_is_asked_for_each_minute_and_holds_up_nobody():
    story = Story(refusal(404), refusal(404), page(config_map("a", 1))).tell()
    assert story.pauses == [60, 60]
    assert story.names == ["a"]
    absent = Story(refusal(404)).tell()
    assert absent.little.store.unseen("ConfigMap").is_absent
    assert absent.reflector.synced.is_set()
    assert absent.reflector.down_since is None


def test_an_optional_kind_that_goes_takes_its_rows_with_it():
    story = Story(page(config_map("a", 1)), refusal(404)).tell()
    assert story.names == []


def test_a_kind_that_must_be_there_is_not_synced_while_it_is_absent():
    story = Story(refusal(404), refusal(404)).tell(watched=WATCHED[0])
    assert not story.reflector.synced.is_set()
    assert story.reflector.down_since is not None


def test_a_kind_that_may_be_denied_is_asked_for_each_minute_keeps_its_rows_and_holds_up_nobody():
    watched = replace(CONFIG_MAPS, may_be_denied=True)
    story = Story(page(config_map("a", 1)), refusal(410), refusal(403, "no"), refusal(403, "no"), page())
    story.tell(watched=watched)
    assert story.pauses[1:] == [60, 60]
    assert story.little.store.unseen("ConfigMap") is None
    denied = Story(page(config_map("a", 1)), refusal(410), refusal(403, "no")).tell(watched=watched)
    assert denied.names == ["a"]
    unseen = denied.little.store.unseen("ConfigMap")
    assert (unseen.is_absent, unseen.told) == (False, "list ConfigMap: no")
    assert denied.reflector.down_since is None
    first = Story(refusal(403, "no")).tell(watched=watched)
    assert first.reflector.synced.is_set()


def test_what_could_not_be_seen_wakes_everything_once_when_it_is_lost_and_once_when_it_is_back():
    little = Little()
    little.observer.observe("Widget", None, obj("Widget", "w", "1", 1))
    little.woken()
    little.observer.lost("ConfigMap", Unseen(is_absent=True, told="in a"))
    assert little.woken() == ["w"]
    little.observer.lost("ConfigMap", Unseen(is_absent=True, told="in b"))
    assert little.woken() == []
    little.observer.regained("ConfigMap")
    assert little.woken() == ["w"]
    little.observer.regained("ConfigMap")
    assert little.woken() == []


def test_a_watch_that_is_closed_at_once_is_no_storm():
    story = Story(page(), stream(), stream()).tell()
    assert len(story.pauses) == 2


def restarts(why: str) -> float:
    found = REGISTRY.get_sample_value("modelops_watch_restarts_total", {"kind": "ConfigMap", "reason": why})
    return found or 0.0


@pytest.mark.parametrize(
    ("answers", "counted"),
    [
        pytest.param((page(), stream()), {"listed": 1, "failed": 1}, id="closed at once"),
        pytest.param(
            (page(), stream(event("ADDED", config_map("a", 11)))), {"listed": 1, "broken": 1}, id="cut short"
        ),
        pytest.param((refusal(503), page()), {"listed": 1, "failed": 1}, id="no list"),
    ],
)
def test_a_watch_that_begins_again_is_counted_with_the_reason(answers, counted):
    words = ("listed", "ended", "broken", "failed")
    before = {why: restarts(why) for why in words}
    Story(*answers).tell()
    assert {why: n for why in words if (n := restarts(why) - before[why])} == counted
