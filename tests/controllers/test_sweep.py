"""The sweep, against a server that answers as the test says."""

import asyncio

from aiohttp import web

from modelops.controllers.sweep import Sweeper
from tests.clients.scripted import connected, refusal
from tests.controllers.little import WATCHED, Little, obj


def widget(name, version, uid=None):
    return obj("Widget", name, uid or f"uid-{name}", version)


def sweep(little, cluster, version=100, listed=None, arrives=()):
    """Sweep once; the cluster holds *cluster*, the list shows *listed*, kopf brings *arrives* meanwhile."""
    listed = cluster if listed is None else listed
    now = [0.0]
    arriving = list(arrives)

    async def sleep(seconds):
        now[0] += seconds
        if arriving:
            little.observer.observe("Widget", None, arriving.pop(0))

    def answer(asked):
        if asked.path.endswith("/widgets"):
            assert "PartialObjectMetadataList" in asked.headers["Accept"]
            items = [{"metadata": item["metadata"]} for item in listed]
            return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})
        found = [item for item in cluster if asked.path.endswith(f"/{item['metadata']['name']}")]
        return web.json_response(found[0]) if found else refusal(404)

    async def story():
        async with connected(answer) as (kube, server):
            sweeper = Sweeper(
                kube, WATCHED, (), little.store, little.observer, sleep=sleep, monotonic=lambda: now[0]
            )
            await sweeper.sweep()
            return [asked.path.rsplit("/", 1)[1] for asked in server.asked]

    return asyncio.run(story())


def names(little):
    return sorted((row.name, row.resource_version) for row in little.store.rows("Widget"))


def test_what_is_gone_is_dropped_and_its_key_is_woken():
    little = Little()
    little.observer.observe("Widget", None, widget("gone", 1))
    little.woken()
    sweep(little, [])
    assert names(little) == []
    assert little.woken() == ["gone"]


def test_what_is_newer_than_the_list_is_kept():
    little = Little()
    little.observer.observe("Widget", None, widget("new", 101))
    sweep(little, [])
    assert names(little) == [("new", 101)]


def test_what_was_never_brought_is_fetched_and_what_is_old_too():
    little = Little()
    little.observer.observe("Widget", None, widget("old", 1))
    asked = sweep(little, [widget("missing", 3), widget("old", 4)])
    assert names(little) == [("missing", 3), ("old", 4)]
    assert asked == ["widgets", "missing", "old"]


def test_what_kopf_brings_meanwhile_is_not_fetched():
    little = Little()
    cluster = [widget("a", 1), widget("b", 2)]
    assert sweep(little, cluster, arrives=cluster) == ["widgets"]
    assert names(little) == [("a", 1), ("b", 2)]


def test_what_was_deleted_after_the_list_is_waited_for_no_longer():
    little = Little()
    assert sweep(little, [], listed=[widget("short-lived", 1)]) == ["widgets", "short-lived"]
    assert names(little) == []


def test_an_object_made_again_under_its_name_replaces_the_one_that_went_unnoticed():
    little = Little()
    little.observer.observe("Widget", None, widget("w", 1, uid="old"))
    sweep(little, [widget("w", 5, uid="new")])
    assert little.store.get("Widget", "n", "w").uid == "new"


def test_a_demand_is_answered_by_a_sweep_and_many_by_one():
    little = Little()

    async def story():
        done = asyncio.Event()

        def answer(asked):
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

        async def sleep(seconds):
            done.set()

        async with connected(answer) as (kube, server):
            sweeper = Sweeper(kube, WATCHED, ("a", "b"), little.store, little.observer, sleep=sleep)
            task = asyncio.create_task(sweeper.run())
            await sweeper.synced.wait()
            assert [asked.path.split("/")[5] for asked in server.asked] == ["a", "b"]
            for _ in range(10):
                sweeper.demand()
            await done.wait()
            while len(server.asked) < 4:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            assert len(server.asked) == 4

    asyncio.run(story())
