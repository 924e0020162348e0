"""What becomes of a pass: when it is given again, what is logged, what the user is told."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from aiohttp import web

from modelops.clients.errors import Ambiguous, Conflict, Invalid, NotLeading, Unavailable
from modelops.clients.events import Recorder
from modelops.controllers.clock import Clock
from modelops.controllers.execute import Executor
from modelops.controllers.store import Unseen
from modelops.controllers.worker import Loop, Workers
from modelops.plan import Event, Plan, Ref
from tests.clients.scripted import connected, refusal
from tests.controllers.little import WATCHED, WIDGET, Little, key, obj

CHILD = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "namespace": "n",
        "name": "c",
        "ownerReferences": [{"uid": "w", "controller": True, "name": "w"}],
    },
    "data": {"text": "x"},
}
ROUTE = {
    **CHILD,
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {**CHILD["metadata"], "name": "r"},
}


class Root:
    """Plans what it is told, or fails as it is told."""

    resource = WIDGET

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def gather(self, key, store):
        return self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]

    def plan(self, seen, now):
        if isinstance(seen, BaseException):
            raise seen
        return seen


def stored(asked):
    """Answer a write as the server would, at a version of its own."""
    body = asked.body if isinstance(asked.body, dict) else {}
    named = {"namespace": "n", "uid": "x", "name": asked.path.split("/")[-1]}
    meta = {**named, **(body.get("metadata") or {}), "resourceVersion": "50"}
    return web.json_response({**body, "metadata": meta})


def passes(*outcomes, count=1, answer=stored, before=(), resync=600.0):
    """Give passes for the Widget w and return what can be seen afterwards."""

    async def story():
        little = Little()
        for kind, seen in (("Widget", obj("Widget", "w", "w", 1)), *before):
            little.observer.observe(kind, "ADDED", seen)
        little.woken()
        async with connected(answer) as (kube, server):
            recorder = Recorder(kube, "test", "test", monotonic=lambda: little.now)
            executor = Executor(kube, little.store, little.observer, recorder, WATCHED)
            loop = Loop(
                little.store, little.queue, little.observations, executor, Clock(), timedelta(seconds=resync)
            )
            workers = Workers(loop, [Root(*outcomes)], monotonic=lambda: little.now)
            for _ in range(count):
                little.queue.add(key("w"))
                while (taken := little.queue.take()) is None:
                    little.now += 1.0  # the server wants to be left alone
                await workers.give_pass(taken)
                little.queue.done(key("w"))
            return SimpleNamespace(
                again=little.queue.next_wake_up(),
                woken=little.woken(),
                little=little,
                workers=workers,
                sent=[(asked.method, asked.path.split("/")[-1], asked.body) for asked in server.asked],
            )

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("outcome", "least", "most"),
    [
        pytest.param(Plan(), 540, 660, id="done: at the next resync, spread by a tenth"),
        pytest.param(Plan(after=timedelta(seconds=7)), 7, 7, id="done: when the plan says"),
        pytest.param(Conflict("x"), 0.2, 0.2, id="somebody was first: almost at once"),
        pytest.param(
            Unavailable("x", timedelta(seconds=30)), 30, 36, id="busy: when the server says, a little spread"
        ),
        pytest.param(Unavailable("x"), 2, 2.4, id="away: soon"),
        pytest.param(Ambiguous("x"), 0.005, 0.005, id="an answer lost: by back-off"),
        pytest.param(ZeroDivisionError("x"), 0.005, 0.005, id="a bug: by back-off"),
        pytest.param(NotLeading("x"), 2, 2, id="no longer the leader: the process is about to end"),
    ],
)
def test_a_pass_says_when_the_next_one_comes(outcome, least, most):
    assert least <= passes(outcome).again <= most


def test_failures_grow_the_pause_and_a_success_ends_that():
    assert passes(ValueError("x"), count=5).little.queue.add_backoff(key("w")) == pytest.approx(0.160)
    assert passes(ValueError("x"), ValueError("x"), Plan(), count=3).little.queue.sizes[-1] == 0


def test_a_server_that_is_away_does_not_grow_the_pause():
    assert passes(Unavailable("x"), count=20).again <= 2.4


def test_a_failure_is_logged_once_until_it_changes(caplog):
    passes(ValueError("one"), ValueError("one"), ValueError("two"), ValueError("two"), count=4)
    assert [record.message for record in caplog.records] == [
        "Widget n/w: pass failed: ValueError one",
        "Widget n/w: pass failed: ValueError two",
    ]


def test_a_pass_that_was_cancelled_by_nobody_is_a_failed_pass():
    assert passes(asyncio.CancelledError()).again == pytest.approx(0.005)


def test_a_pass_that_was_cancelled_on_purpose_ends_the_worker():
    async def story():
        entered = asyncio.Event()

        async def answer(asked):
            entered.set()
            await asyncio.sleep(10)
            return web.Response()

        little = Little()
        little.observer.observe("Widget", "ADDED", obj("Widget", "w", "w", 1))
        async with connected(answer) as (kube, _):
            executor = Executor(kube, little.store, little.observer, Recorder(kube, "t", "t"), WATCHED)
            loop = Loop(little.store, little.queue, little.observations, executor, Clock(), timedelta(1))
            workers, synced = Workers(loop, [Root(Plan(status={"a": 1}))]), asyncio.Event()
            task = asyncio.create_task(workers.run(synced))
            await asyncio.sleep(0)
            assert workers.alive == 0, "no key is taken before everything was seen"
            synced.set()
            await entered.wait()
            assert workers.alive == 1
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert workers.alive == 0

    asyncio.run(story())


def test_a_key_without_an_object_is_forgotten():
    async def story():
        little = Little()
        async with connected(stored) as (kube, _):
            executor = Executor(kube, little.store, little.observer, Recorder(kube, "t", "t"), WATCHED)
            loop = Loop(little.store, little.queue, little.observations, executor, Clock(), timedelta(1))
            workers = Workers(loop, [Root(Plan())])
            little.queue.add_backoff(key("gone"))
            await workers.give_pass(key("gone"))
            assert little.queue.next_wake_up() is None
            assert set(little.queue.sizes) == {0}
            assert workers.sizes == (0, 0)

    asyncio.run(story())


# --- acting ------------------------------------------------------------------------------------------


def test_a_plan_is_carried_out_in_order():
    gone = Ref("v1", "Secret", "n", "s", uid="s")
    told = Event("Normal", "Done", "d")
    plan = Plan(status={"text": "x", "none": None}, apply=(CHILD,), delete=(gone,), events=(told,))
    sent = passes(plan).sent
    assert [(method, name) for method, name, _ in sent] == [
        ("PATCH", "status"),
        ("PATCH", "c"),
        ("DELETE", "s"),
        ("POST", "events"),
    ]
    status = sent[0][2]
    assert status["metadata"] == {"namespace": "n", "name": "w", "resourceVersion": "1"}
    assert status["status"] == {"text": "x"}
    assert sent[2][2]["preconditions"] == {"uid": "s"}


def test_what_a_write_returned_wakes_the_root_for_a_pass_that_writes_nothing():
    seen = passes(Plan({"text": "x"}, (CHILD,)))
    assert seen.woken == ["w"]
    digest = seen.little.store.get("ConfigMap", "n", "c").applied_hash
    before = (("ConfigMap", obj("ConfigMap", "c", "c", 2, owner="w")),)
    before[0][1]["metadata"]["annotations"] = {"modelops.dev/applied-hash": digest}
    again = passes(Plan(None, (CHILD,)), before=before)
    assert again.sent == []


def test_an_equal_status_is_not_written():
    before = (("Widget", {**obj("Widget", "w", "w", 2), "status": {"text": "x", "count": 1}}),)
    assert passes(Plan({"count": 1, "text": "x", "none": None}), before=before).sent == []


def test_a_child_that_is_there_is_written_and_deleted_under_its_uid_and_its_version():
    before = [("ConfigMap", obj("ConfigMap", "c", "u1", 7, owner="w"))]
    gone = Ref("v1", "ConfigMap", "n", "c", "u1")
    (_, _, child), *_ = passes(Plan(None, (CHILD,)), before=before).sent
    (_, _, options) = passes(Plan(None, delete=(gone,)), before=before).sent[-1]
    assert (child["metadata"]["uid"], child["metadata"]["resourceVersion"]) == ("u1", "7")
    assert options["preconditions"] == {"uid": "u1", "resourceVersion": "7"}


def test_a_first_route_is_created_without_content_and_filled_under_its_version():
    bare, whole = passes(Plan(None, (ROUTE,))).sent
    assert [bare[0], whole[0]] == ["POST", "PATCH"]
    assert "data" not in bare[2]
    assert whole[2]["metadata"]["resourceVersion"] == "50"


def test_a_first_route_that_somebody_else_made_meanwhile_is_not_written():
    def answer(asked):
        return refusal(409) if asked.method == "POST" else stored(asked)

    seen = passes(Plan(None, (ROUTE,)), answer=answer)
    assert [method for method, _, _ in seen.sent] == ["POST", "GET"]
    assert seen.again == pytest.approx(0.2)


def test_a_child_whose_kind_is_not_installed_is_told_and_asked_for_again():
    def answer(asked):
        return stored(asked) if asked.path.endswith("/events") else refusal(404)

    seen = passes(Plan(None, (CHILD,)), answer=answer)
    assert seen.little.observations.refused(key("w")).code == "KindAbsent"
    assert seen.again == pytest.approx(1)


def test_a_conflict_ends_the_plan():
    def answer(asked):
        return refusal(409) if asked.path.endswith("/status") else stored(asked)

    seen = passes(Plan({"text": "x"}, (CHILD,)), answer=answer)
    assert [name for _, name, _ in seen.sent] == ["status"]
    assert seen.again == pytest.approx(0.2)


def denied(asked):
    if asked.method == "PATCH":
        return refusal(400, 'admission webhook "check.example.com" denied the request: too big')
    return stored(asked)


def test_a_refusal_is_left_for_the_plan_told_once_and_ends_the_plan():
    other = {**CHILD, "metadata": {**CHILD["metadata"], "name": "second"}}
    seen = passes(Plan(None, (CHILD, other)), answer=denied, count=3)
    assert [name for method, name, _ in seen.sent if method == "PATCH"] == ["c"] * 3
    (event,) = [body for method, _, body in seen.sent if method == "POST"]
    assert (event["type"], event["reason"]) == ("Warning", "RefusedByPolicy")
    reason = seen.little.observations.refused(key("w"))
    assert reason.code == "RefusedByPolicy"
    assert "webhook check.example.com" in reason.message
    assert "too big" in reason.message
    assert seen.again == pytest.approx(4)  # 1, 2, 4 s


def test_a_refusal_that_is_over_is_taken_back():
    seen = passes(Invalid("x"), Plan(), count=2)
    assert seen.little.observations.refused(key("w")) is None
    assert seen.woken == ["w"], "so that the plan can take its condition back"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(obj("ConfigMap", "c", "u", 7), id="one that nobody controls"),
        pytest.param(obj("ConfigMap", "c", "u", 7, owner="other"), id="one of another owner"),
    ],
)
def test_a_child_of_somebody_else_is_never_written_over(found):
    seen = passes(Plan(None, (CHILD,)), before=[("ConfigMap", found)])
    assert [method for method, _, _ in seen.sent] == ["POST"]  # the event
    assert seen.little.observations.refused(key("w")).code == "NameTaken"


MONITOR = {
    **CHILD,
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "PodMonitor",
    "metadata": {**CHILD["metadata"], "name": "m"},
}


def no_monitor(code):
    def answer(asked):
        return refusal(code, "no") if "podmonitors" in asked.path else stored(asked)

    return answer


@pytest.mark.parametrize(
    ("code", "events"),
    [
        pytest.param(404, 0, id="its kind is not installed"),
        pytest.param(405, 1, id="its kind is just being removed"),
        pytest.param(403, 1, id="the operator may not make it"),
    ],
)
def test_a_plan_goes_on_without_a_child_that_nothing_depends_on(code, events):
    gone = Ref("v1", "Secret", "n", "s", uid="s")
    plan = Plan(apply=(MONITOR, CHILD), delete=(gone,))
    seen = passes(plan, plan, answer=no_monitor(code), count=2)
    written = [name for method, name, _ in seen.sent if method in ("PATCH", "DELETE")]
    assert written == ["m", "c", "s", "m", "s"]
    assert [body["reason"] for method, _, body in seen.sent if method == "POST"] == ["WithoutChild"] * events
    assert seen.little.observations.refused(key("w")) is None
    assert seen.again > 500, "the pass has succeeded"


def test_a_child_that_nothing_depends_on_is_not_tried_while_its_kind_cannot_be_seen():
    async def story():
        little = Little()
        little.observer.observe("Widget", "ADDED", obj("Widget", "w", "w", 1))
        async with connected(stored) as (kube, server):
            executor = Executor(kube, little.store, little.observer, Recorder(kube, "t", "t"), WATCHED)
            row = little.store.get("Widget", "n", "w")
            little.observer.lost("PodMonitor", Unseen(is_absent=True, told="not found"))
            await executor.execute(WIDGET, row, Plan(apply=(MONITOR,)))
            assert server.asked == []
            little.observer.regained("PodMonitor")
            await executor.execute(WIDGET, row, Plan(apply=(MONITOR,)))
            assert [asked.method for asked in server.asked] == ["PATCH"]

    asyncio.run(story())


def test_in_one_of_twenty_resyncs_an_equal_child_is_applied_too():
    async def story():
        little = Little()
        little.observer.observe("Widget", "ADDED", obj("Widget", "w", "w", 1))
        async with connected(stored) as (kube, server):
            executor = Executor(kube, little.store, little.observer, Recorder(kube, "t", "t"), WATCHED)
            loop = Loop(
                little.store, little.queue, little.observations, executor, Clock(), timedelta(seconds=10)
            )
            workers = Workers(loop, [Root(Plan(None, (CHILD,)))], monotonic=lambda: little.now)
            for _ in range(100):
                await workers.give_pass(key("w"))
                little.now += 10
            return len(server.asked)

    assert 5 <= asyncio.run(story()) <= 7  # the first write, and five repairs in a hundred passes
