"""What becomes of a write that fails: the rows of the notes on the loop, 5.2 and 5.3."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modelops.plan import Manifest
from tests.fakeapi import answers
from tests.fakeapi.api import FakeApi
from tests.fakeapi.requests import Asked
from tests.faults.operating import NAMESPACE, Running, operating, tell, widget


def of(api: FakeApi, kind: str, subresource: str = "") -> list[Asked]:
    return [w for w in api.log.writes() if w.kind == kind and w.subresource == subresource]


def told(api: FakeApi) -> str | None:
    """Return the refusal that the status of the Widget tells."""
    found = api.get("Widget", NAMESPACE, "w")
    return ((found or {}).get("status") or {}).get("refused")


def under(fault: dict[str, Any], tmp_path: Path, check: Callable[[FakeApi, Running], Any]) -> None:
    """Let a Widget come while its first writes fail, and look at the end."""

    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await run.synced()
            api.fail(**fault)
            api.seed(widget("w"))
            await run.until(lambda: run.says("w") == "one" and not told(api), 700)
            await asyncio.sleep(30)
            check(api, run)

    tell(story)


@pytest.mark.parametrize(
    ("fault", "attempts", "least", "most"),
    [
        pytest.param({"refusal": answers.stale("c", "w")}, 2, 0, 0.3, id="409: almost at once"),
        pytest.param({"refusal": answers.busy(429, "7")}, 2, 7, 8.5, id="429, seconds in the header"),
        pytest.param({"refusal": answers.busy(429, seconds=9)}, 2, 9, 11, id="429, seconds in the body"),
        pytest.param({"refusal": answers.busy(429)}, 2, 2, 2.5, id="429 without a pause"),
        pytest.param({"refusal": answers.busy(503, "4")}, 2, 4, 5, id="503, seconds in the header"),
        pytest.param({"refusal": answers.webhook_away("check")}, 2, 2, 2.5, id="500: a webhook is away"),
        pytest.param({"drops": True}, 2, 0, 0.1, id="dropped before: read back, not there, sent again"),
        pytest.param({"hangs": True}, 2, 15, 16.1, id="hangs: given up after 15 s, read back, sent again"),
        pytest.param({"delay": 5.0}, 1, 0, 0, id="late: waited for"),
        pytest.param({"drops": True, "is_after": True}, 1, 0, 0, id="dropped after: read back, and done"),
        pytest.param({"hangs": True, "is_after": True}, 1, 0, 0, id="hangs after: read back, and done"),
        pytest.param(
            {"refusal": answers.busy(504), "is_after": True}, 1, 0, 0, id="504 after: read back, and done"
        ),
    ],
)
@pytest.mark.parametrize(("kind", "subresource"), [("ConfigMap", ""), ("Widget", "status")])
def test_a_write_that_fails_once_is_sent_again_when_and_only_when_it_was_not_done(
    fault, attempts, least, most, kind, subresource, tmp_path
):
    def check(api: FakeApi, run: Running) -> None:
        sent = of(api, kind, subresource)
        assert [w.has_landed for w in sent].count(True) == 1
        assert len(sent) == attempts
        if attempts > 1:
            assert least <= sent[1].at - sent[0].at <= most
        assert told(api) is None

    chosen = {"verb": "apply", "kind": kind, "subresource": subresource, "times": 1}
    under({**chosen, **fault}, tmp_path, check)


def test_a_pause_until_a_date_is_kept(tmp_path):
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)

    def check(api: FakeApi, run: Running) -> None:
        first, second = of(api, "ConfigMap")
        assert 35 <= second.at - first.at <= 48

    refusal = answers.busy(429, until)
    under({"verb": "apply", "kind": "ConfigMap", "refusal": refusal, "times": 1}, tmp_path, check)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        pytest.param(answers.denied("size", "all", "too big"), "RefusedByPolicy", id="by a policy"),
        pytest.param(answers.forbidden("a", "patch", "configmaps"), "OperatorLacksRight", id="by RBAC"),
        pytest.param(answers.invalid("configmaps", "w", "data: no"), "RejectedByServer", id="by the schema"),
    ],
)
def test_a_refusal_is_told_and_asked_again_ever_later_without_a_status_write_each_time(
    refusal, code, tmp_path
):
    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await run.synced()
            fault = api.fail("apply", "ConfigMap", refusal=refusal)
            api.seed(widget("w"))
            await run.until(lambda: told(api) == code)
            statuses = len(of(api, "Widget", "status"))
            await asyncio.sleep(600)
            pauses = [b.at - a.at for a, b in pairwise(of(api, "ConfigMap"))][1:]
            assert 6 <= len(pauses) <= 14
            assert pauses[-1] > 60
            assert len(of(api, "Widget", "status")) == statuses
            assert len([w for w in of(api, "Event") if "Warning" in str(w.body)]) == 1
            api.faults.lift(fault)
            api.edit("Widget", NAMESPACE, "w", lambda obj: obj["spec"].update(text="two"))
            await run.until(lambda: run.says("w") == "two" and told(api) is None)

    tell(story)


def test_nothing_later_in_the_plan_is_done_after_a_refusal(tmp_path):
    """The status is refused: the child must not come."""

    async def story(api: FakeApi) -> None:
        async with operating(api, tmp_path) as run:
            await run.synced()
            api.fail("apply", "Widget", subresource="status", refusal=answers.stale("widgets", "w"))
            api.seed(widget("w"))
            await asyncio.sleep(60)
            assert len(of(api, "Widget", "status")) >= 5
            assert of(api, "ConfigMap") == []

    tell(story)


def test_no_equal_status_is_written_and_the_writer_sees_what_it_wrote(tmp_path):
    """The watch event that follows a write has its version and wakes nobody: the write itself must."""

    def check(api: FakeApi, run: Running) -> None:
        assert len(of(api, "Widget", "status")) == 1
        assert len(of(api, "ConfigMap")) == 1
        assert run.machine.queue.depth == 0

    under({"verb": "watch", "kind": "ConfigMap", "is_stall": True}, tmp_path, check)


def _foreign(name: str, **meta: Any) -> Manifest:
    labels = {"loop.example.com/widget": name}
    named = {"namespace": NAMESPACE, "name": name, "labels": labels, **meta}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"text": "mine"}}


def test_a_child_of_an_owner_that_is_gone_is_waited_for(tmp_path):
    """The Widget was made anew under its name: what belonged to the first goes by itself."""

    async def story(api: FakeApi) -> None:
        old = {"apiVersion": "loop.example.com/v1", "kind": "Widget", "name": "w", "uid": "gone"}
        api.seed(widget("w"), _foreign("w", ownerReferences=[{**old, "controller": True}]))
        async with operating(api, tmp_path) as run:
            await run.until(lambda: run.says("w") == "one", 300)

    tell(story)


def test_a_re_created_object_is_not_written_under_its_old_uid(tmp_path):
    async def story(api: FakeApi) -> None:
        api.seed(widget("w"))
        async with operating(api, tmp_path) as run:
            await run.synced()
            await run.until(lambda: run.says("w") == "one")
            stream = api.stall("ConfigMap")
            api.recreate("ConfigMap", NAMESPACE, "w", silently=True)
            api.edit("Widget", NAMESPACE, "w", lambda obj: obj["spec"].update(text="two"))
            await asyncio.sleep(20)
            refused = [w for w in of(api, "ConfigMap") if w.code in (409, 422)]
            assert refused, stream
            await run.until(lambda: run.says("w") == "two", 700)

    tell(story)
