"""How requests are sent, and what becomes of every way in which they fail."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from modelops.api.names import APPLIED_HASH
from modelops.clients.errors import Ambiguous, Conflict, Gone, Invalid, NotFound, NotLeading, Unavailable
from modelops.clients.kinds import resource_of
from modelops.clients.kube import Kube
from modelops.plan import Ref
from tests.clients.scripted import Asked, connected, refusal

CONFIG_MAPS = resource_of("v1", "ConfigMap")
NAMED = Ref("v1", "ConfigMap", "n", "c")
WANTED = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": "n", "name": "c", "annotations": {APPLIED_HASH: "h"}},
}
STORED = {**WANTED, "metadata": {**WANTED["metadata"], "uid": "u", "resourceVersion": "7"}}
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"namespace": "n", "name": "l", "resourceVersion": "1"},
}


def ask(answer: Any, question: Callable[[Kube], Awaitable[Any]], **more: Any) -> list[Asked]:
    """Run a question against a server that answers so, and return what it was asked."""

    async def main() -> list[Asked]:
        async with connected(answer, **more) as (kube, server):
            await question(kube)
            return server.asked

    return asyncio.run(main())


def test_an_apply_is_forced_named_and_sent_as_one_patch():
    (sent,) = ask(lambda asked: web.json_response(STORED), lambda kube: kube.apply(WANTED))
    assert (sent.method, sent.path) == ("PATCH", "/api/v1/namespaces/n/configmaps/c")
    assert sent.query == {"fieldManager": "modelops", "force": "true"}
    assert sent.headers["Content-Type"] == "application/apply-patch+yaml"
    assert sent.body == WANTED


def test_a_status_goes_to_its_own_path():
    (sent,) = ask(lambda asked: web.json_response(STORED), lambda kube: kube.apply_status(WANTED))
    assert sent.path == "/api/v1/namespaces/n/configmaps/c/status"


def test_a_delete_carries_its_preconditions():
    gone = Ref("v1", "ConfigMap", "n", "c", uid="u", resource_version="7")
    (sent,) = ask(lambda asked: web.json_response({}), lambda kube: kube.delete(gone))
    assert sent.body["preconditions"] == {"uid": "u", "resourceVersion": "7"}


TOMORROW = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


@pytest.mark.parametrize(
    ("answer", "error", "seconds"),
    [
        pytest.param(refusal(404), NotFound, None, id="absent"),
        pytest.param(refusal(409), Conflict, None, id="somebody was first"),
        pytest.param(refusal(410), Gone, None, id="too old"),
        pytest.param(refusal(422), Invalid, None, id="against the schema"),
        pytest.param(refusal(415), Invalid, None, id="a body of the wrong kind"),
        pytest.param(refusal(401), Unavailable, None, id="a token that is read again soon"),
        pytest.param(refusal(500, "failed calling webhook"), Unavailable, None, id="a webhook is away"),
        pytest.param(refusal(503), Unavailable, None, id="away, without a time to come back"),
        pytest.param(refusal(429, headers={"Retry-After": "7"}), Unavailable, 7, id="busy for some seconds"),
        pytest.param(
            refusal(429, headers={"Retry-After": TOMORROW}), Unavailable, 86400, id="busy until a date"
        ),
        pytest.param(
            refusal(429, details={"retryAfterSeconds": 3}), Unavailable, 3, id="busy, told in the body"
        ),
        pytest.param(web.Response(status=502, text="<html>"), Unavailable, None, id="no JSON at all"),
        pytest.param(refusal(504), Ambiguous, None, id="a timeout of the server that may hide a write"),
    ],
)
def test_an_answer_becomes_the_error_that_a_caller_can_act_on(answer, error, seconds):
    async def question(kube: Kube) -> None:
        with pytest.raises(error) as refused:
            await kube.patch(NAMED, {}, "application/merge-patch+json")
        if error is Unavailable:
            found = refused.value.retry_after
            assert (found is None) == (seconds is None)
            assert found is None or found.total_seconds() == pytest.approx(seconds, rel=0.01)

    ask(lambda asked: answer, question)


def test_a_server_that_is_not_there_has_executed_nothing():
    async def main() -> None:
        async with connected(lambda asked: web.json_response({})) as (kube, _):
            kube.configuration.host = "http://127.0.0.1:1"
            with pytest.raises(Unavailable):
                await kube.apply(WANTED)

    asyncio.run(main())


def test_a_cut_read_is_unavailable():
    async def question(kube: Kube) -> None:
        with pytest.raises(Unavailable):
            await kube.get(NAMED)

    ask(lambda asked: asked.cut(), question)


def lost(found: Any) -> Callable[[Asked], web.Response]:
    """Lose the answer to every write; a read finds *found*."""

    def answer(asked: Asked) -> web.Response:
        if asked.method != "GET":
            return asked.cut()
        return web.json_response(found) if found else refusal(404)

    return answer


OTHER_HASH = {**STORED, "metadata": {**STORED["metadata"], "annotations": {APPLIED_HASH: "other"}}}
GOING = {**STORED, "metadata": {**STORED["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("write", "found", "is_done"),
    [
        pytest.param("apply", STORED, True, id="the child shows our hash: it was executed"),
        pytest.param("apply", OTHER_HASH, False, id="the child shows another hash"),
        pytest.param("apply", None, False, id="the child is not there"),
        pytest.param("apply_status", {**STORED, "status": {"a": 1}}, True, id="the status is our own"),
        pytest.param("apply_status", {**STORED, "status": {"a": 2}}, False, id="the status is another"),
        pytest.param("delete", None, True, id="what was deleted is gone"),
        pytest.param("delete", GOING, True, id="what was deleted is going"),
        pytest.param("delete", STORED, False, id="what was deleted is still there"),
    ],
)
def test_a_write_whose_answer_was_lost_is_read_back(write, found, is_done):
    async def question(kube: Kube) -> None:
        wish: Any = Ref("v1", "ConfigMap", "n", "c", uid="u") if write == "delete" else WANTED
        if write == "apply_status":
            wish = {**WANTED, "status": {"a": 1}}
        if is_done:
            await getattr(kube, write)(wish)
        else:
            with pytest.raises(Ambiguous):
                await getattr(kube, write)(wish)

    sent = ask(lost(found), question)
    assert sent[-1].method == "GET"


def test_a_replica_that_does_not_lead_sends_no_write_but_reads_and_renews():
    async def question(kube: Kube) -> None:
        with pytest.raises(NotLeading):
            await kube.apply(WANTED)
        with pytest.raises(NotLeading):
            await kube.delete(NAMED)
        await kube.get(NAMED)
        await kube.replace_lease(LEASE)

    sent = ask(lambda asked: web.json_response(STORED), question, may_write=lambda: False)
    assert [asked.method for asked in sent] == ["GET", "PUT"]


def test_leadership_is_asked_after_waiting_for_a_turn():
    leads = [True]

    async def question(kube: Kube) -> None:
        first = asyncio.create_task(kube.apply(WANTED))
        second = asyncio.create_task(kube.apply(WANTED))
        await first
        with pytest.raises(NotLeading):
            await second

    async def answer(asked: Asked) -> web.Response:
        leads[0] = False  # while the first write is under way and the second waits
        return web.json_response(STORED)

    sent = ask(answer, question, may_write=lambda: leads[0], in_flight=1)
    assert len(sent) == 1


def test_the_lease_does_not_wait_for_a_turn():
    async def question(kube: Kube) -> None:
        slow = asyncio.create_task(kube.get(NAMED))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.5):
            await kube.replace_lease(LEASE)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow

    async def answer(asked: Asked) -> web.Response:
        if asked.method == "GET":
            await asyncio.sleep(1)
        return web.json_response({})

    ask(answer, question, in_flight=1)


def test_a_watch_streams_lines_of_any_length_and_ends_with_the_stream():
    long = {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "8"}, "data": "x" * 3_000_000}}
    short = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}

    async def question(kube: Kube) -> None:
        events = [event async for event in kube.watch(CONFIG_MAPS, "7", labels="a=b")]
        assert [event.type for event in events] == ["MODIFIED", "BOOKMARK"]
        assert len(events[0].object["data"]) == 3_000_000

    (sent,) = ask(lambda asked: asked.stream(long, short), question)
    assert sent.query["allowWatchBookmarks"] == "true"
    assert (sent.query["resourceVersion"], sent.query["labelSelector"]) == ("7", "a=b")


def test_any_error_inside_a_watch_asks_for_a_new_list():
    async def question(kube: Kube) -> None:
        with pytest.raises(Gone):
            [event async for event in kube.watch(CONFIG_MAPS, "7")]

    ask(lambda asked: asked.stream({"type": "ERROR", "object": {"code": 500, "message": "x"}}), question)


def test_a_cancellation_that_nobody_asked_for_is_a_lost_answer():
    """kopf cancels younger tasks when it ends, also those that a request of ours is waiting for."""

    async def main() -> None:
        async with connected(lambda asked: web.json_response({})) as (kube, _):

            async def waits_for_a_cancelled_task(*_: Any, **__: Any) -> None:
                resolving = asyncio.create_task(asyncio.sleep(10))
                resolving.cancel()
                await resolving

            kube._api.rest_client.request = waits_for_a_cancelled_task  # where aiohttp would resolve names
            with pytest.raises(Unavailable):
                await kube.get(NAMED)
            with pytest.raises(Ambiguous):
                await kube.create(WANTED)

    asyncio.run(main())


def test_the_kinds_of_the_cluster_are_asked_by_discovery():
    found = {"resources": [{"kind": "ConfigMap"}, {"kind": "Pod"}]}
    known: list[bool] = []

    async def question(kube: Kube) -> None:
        known.append(await kube.serves(CONFIG_MAPS))
        known.append(await kube.serves(resource_of("v1", "Secret")))
        known.append(await kube.serves(resource_of("gateway.networking.k8s.io/v1", "HTTPRoute")))

    ask(lambda asked: web.json_response(found) if asked.path == "/api/v1" else refusal(404), question)
    assert known == [True, False, False]
