"""Objects of known names, read one by one, against a server that answers as the test says."""

import asyncio

from aiohttp import web

from modelops.clients.kinds import resource_of
from modelops.controllers import rows
from modelops.controllers.named import EVERY_SECONDS, Named
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.seam import Watched
from modelops.controllers.store import Store
from tests.clients.scripted import connected, refusal

NAMESPACES = Watched(resource_of("v1", "Namespace"), rows.namespace, lambda row, store: (), is_named=True)


def namespace(name, version, environment="lab"):
    labels = {"modelops.dev/environment": environment}
    meta = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
    return web.json_response({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})


class Story:
    """Answers in turn, for a and b alternately; the reading is stopped when none is left."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.pauses = []
        self.store = Store()
        queue = Queue()
        self.observer = Observer([NAMESPACES], self.store, queue, Observations(queue.add))
        asyncio.run(self._tell())

    async def _tell(self):
        self.over = asyncio.Event()
        async with connected(self._answer) as (kube, server):
            self.named = Named(kube, NAMESPACES, ("a", "b"), self.store, self.observer, sleep=self._sleep)
            task = asyncio.create_task(self.named.run())
            await self.over.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()
            self.asked = [asked.path for asked in server.asked]

    async def _sleep(self, seconds):
        self.pauses.append(seconds)
        if not self.answers:
            self.over.set()
            await asyncio.sleep(10)

    async def _answer(self, asked):
        return self.answers.pop(0)

    @property
    def environments(self):
        return {row.name: row.environment for row in self.store.rows("Namespace")}


def test_each_name_is_asked_for_and_nothing_is_listed():
    story = Story(namespace("a", 1), namespace("b", 2), namespace("a", 3, "prod"), namespace("b", 2))
    assert story.asked == ["/api/v1/namespaces/a", "/api/v1/namespaces/b"] * 2
    assert story.environments == {"a": "prod", "b": "lab"}
    assert story.pauses == [EVERY_SECONDS, EVERY_SECONDS]
    assert story.named.synced.is_set()
    assert story.named.down_since is None


def test_one_that_is_not_there_is_forgotten_and_holds_up_nobody():
    story = Story(namespace("a", 1), refusal(404), refusal(404), refusal(404))
    assert story.environments == {}
    assert story.named.synced.is_set()
    assert story.store.unseen("Namespace") is None


def test_one_that_may_not_be_read_is_not_known_any_more_and_the_refusal_is_kept():
    story = Story(namespace("a", 1), namespace("b", 2), refusal(403, "no"), namespace("b", 2))
    assert story.environments == {"b": "lab"}
    assert story.store.unseen("Namespace").told == "get Namespace a: no"
    again = Story(refusal(403, "no"), namespace("b", 2), namespace("a", 1), namespace("b", 2))
    assert again.store.unseen("Namespace") is None


def test_a_server_that_does_not_answer_takes_nothing_away():
    story = Story(namespace("a", 1), namespace("b", 2), refusal(503))
    assert story.environments == {"a": "lab", "b": "lab"}
    assert story.named.down_since is not None
    assert not Story(refusal(503)).named.synced.is_set()
