"""Events are told once each, and never at the cost of a pass."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web

from modelops.clients.events import Recorder
from modelops.plan import Event, Ref
from tests.clients.scripted import connected, refusal

ABOUT = Ref("modelops.dev/v1alpha1", "Model", "n", "m", uid="u")
NODE = Ref("modelops.dev/v1alpha1", "ModelNode", None, "node")
PROMOTED = Event("Normal", "Promoted", "m-2 serves")


def tell(answer, *told):
    """Tell (seconds, about, event) one after the other and return the bodies that arrived."""

    async def main():
        async with connected(answer) as (kube, server):
            at = [0.0]
            recorder = Recorder(
                kube, "modelops-operator", "pod-1", lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: at[0]
            )
            for seconds, about, event in told:
                at[0] = seconds
                await recorder.tell(about, event)
            return [asked.body for asked in server.asked]

    return asyncio.run(main())


def test_an_event_says_what_happened_to_what():
    (body,) = tell(lambda _: web.json_response({}), (0, ABOUT, PROMOTED))
    assert body["metadata"]["namespace"] == "n"
    assert body["involvedObject"]["uid"] == "u"
    told = (body["type"], body["reason"], body["message"])
    assert told == ("Normal", "Promoted", "m-2 serves")
    assert body["firstTimestamp"] == "2026-01-01T00:00:00Z"


def test_an_event_about_a_cluster_scoped_object_lives_in_default():
    (body,) = tell(lambda _: web.json_response({}), (0, NODE, PROMOTED))
    assert body["metadata"]["namespace"] == "default"
    assert "namespace" not in body["involvedObject"]


def test_the_same_event_is_told_again_only_after_ten_minutes():
    times = [(0, ABOUT, PROMOTED), (599, ABOUT, PROMOTED), (601, ABOUT, PROMOTED), (602, ABOUT, PROMOTED)]
    assert len(tell(lambda _: web.json_response({}), *times)) == 2


def test_an_event_that_cannot_be_told_is_forgotten():
    assert len(tell(lambda _: refusal(403, "no"), (0, ABOUT, PROMOTED))) == 1
