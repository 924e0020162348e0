"""A route of a user on the real schema: weights change, all else stays, and what was found comes back."""

import asyncio
import copy
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml

from e2e.cluster.images import gateway_api_crds
from modelops.api.policy import Matched, PinnedBy
from modelops.clients import kinds
from modelops.clients.errors import ApiError, Conflict
from modelops.clients.events import Recorder
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube, connect
from modelops.controllers import route_rows
from modelops.controllers.execute import Executor
from modelops.controllers.observations import Observations
from modelops.controllers.observe import Observer
from modelops.controllers.queue import Queue
from modelops.controllers.seam import Watched
from modelops.controllers.store import Key, OwnRow, Store
from modelops.plan import Manifest, Patch, Plan, Ref
from modelops.rollouts.traffic import Shares
from modelops.serving import lent, splitters
from modelops.serving.manifests import Gateway, Owner
from tests.fakeapi.behaviours import until

CRDS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
ROUTES = tuple(kinds.resource_of(splitters.ROUTE_API, kind) for kind in ("HTTPRoute", "GRPCRoute"))
EVERY_KIND = pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
GIT = "git"
NOTE = "weights.modelops.dev/chat"
kinds.register(CRDS)

Story = Callable[[Kube, str], Awaitable[None]]


@pytest.fixture(scope="module")
def told(api: Any) -> Iterator[Callable[[Story], None]]:
    """Run a story in a namespace of its own, with the Gateway API's standard definitions installed."""

    async def installed(kube: Kube) -> None:
        for resource in ROUTES:
            await kube.apply(_definition(resource))
        for resource in ROUTES:
            await until(lambda resource=resource: kube.serves(resource))

    async def removed(kube: Kube) -> None:
        for resource in ROUTES:
            name = f"{resource.plural}.gateway.networking.k8s.io"
            await kube.delete(Ref(CRDS.api_version, CRDS.kind, None, name))
        for resource in ROUTES:
            await until(lambda resource=resource: _is_gone(kube, resource))

    async def with_kube(what: Callable[[Kube], Awaitable[None]]) -> None:
        kube = await connect(str(api.kubeconfig))
        try:
            await what(kube)
        finally:
            await kube.close()

    async def in_namespace(kube: Kube, story: Story) -> None:
        name = f"lent-{uuid.uuid4().hex[:8]}"
        await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            await story(kube, name)
        finally:
            await kube.delete(Ref("v1", "Namespace", None, name))

    asyncio.run(with_kube(installed))
    yield lambda story: asyncio.run(with_kube(lambda kube: in_namespace(kube, story)))
    asyncio.run(with_kube(removed))


def _definition(resource: Resource) -> Manifest:
    path = gateway_api_crds() / f"gateway.networking.k8s.io_{resource.plural}.yaml"
    return dict(yaml.safe_load(path.read_text()))


async def _is_gone(kube: Kube, resource: Resource) -> bool:
    return not await kube.serves(resource)


# --- vocabulary --------------------------------------------------------------------------------------


def web(kind: str, namespace: str) -> Manifest:
    """Return a route as a team keeps it in Git, with much that is none of our business."""
    port = 80 if kind == "HTTPRoute" else 8001
    add = {"set": [{"name": "x-team", "value": "chat"}]}
    backends = [
        {"name": "chat-stable", "port": port, "weight": 900},
        {"name": "chat-canary", "port": port, "weight": 0},
    ]
    rule = {
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": add}],
        "backendRefs": [*backends, {"name": "legacy", "port": port, "weight": 100}],
    }
    meta = {"name": "web", "namespace": namespace, "labels": {"team": "chat"}, "annotations": {"a": "b"}}
    hosts = {"parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["chat.example.com"]}
    other = {"backendRefs": [{"name": "else", "port": port}]}
    spec = {**hosts, "rules": [rule, other]}
    return {"apiVersion": splitters.ROUTE_API, "kind": kind, "metadata": meta, "spec": spec}


def shifted(stored: Manifest, canary: int) -> Patch:
    row = route_rows.lent(route_rows.route(stored), stored["kind"], "chat")
    patch = lent.shift(
        row, "chat", stored["metadata"]["namespace"], {"stable": 100 - canary, "canary": canary}
    )
    assert patch is not None
    return patch


def given_back(stored: Manifest) -> Patch:
    row = route_rows.lent(route_rows.route(stored), stored["kind"], "chat")
    patch = lent.give_back(row, "chat", stored["metadata"]["namespace"])
    assert patch is not None
    return patch


def weights(stored: Manifest) -> list[int]:
    return [backend["weight"] for backend in stored["spec"]["rules"][0]["backendRefs"]]


def fields_of(stored: Manifest, manager: str) -> str:
    """Return what the manager owns, as the server writes it down."""
    return str([f["fieldsV1"] for f in stored["metadata"]["managedFields"] if f["manager"] == manager])


# --- the stories -------------------------------------------------------------------------------------


@EVERY_KIND
def test_only_weights_change_and_all_comes_back_as_it_was_found(told, kind):
    async def story(kube: Kube, namespace: str) -> None:
        before = await kube.apply(web(kind, namespace), field_manager=GIT)
        first = shifted(before, 20)
        after = await kube.change(first.ref, first.operations)
        assert weights(after) == [720, 180, 100]
        expected = copy.deepcopy(before["spec"])
        for backend, weight in zip(expected["rules"][0]["backendRefs"], (720, 180, 100), strict=True):
            backend["weight"] = weight
        assert after["spec"] == expected
        assert after["metadata"]["labels"] == {"team": "chat"}
        assert set(after["metadata"]["annotations"]) == {"a", NOTE}
        second = shifted(after, 50)
        last = await kube.change(second.ref, second.operations)
        assert weights(last) == [450, 450, 100]
        back = given_back(last)
        found = await kube.change(back.ref, back.operations)
        assert found["spec"] == before["spec"]
        assert found["metadata"]["annotations"] == {"a": "b"}

    told(story)


@EVERY_KIND
def test_the_users_manager_keeps_all_but_the_rules_and_is_told_of_the_conflict(told, kind):
    """Rules are one list for the server: who changes a weight owns the list until it is applied by force."""

    async def story(kube: Kube, namespace: str) -> None:
        before = await kube.apply(web(kind, namespace), field_manager=GIT)
        assert "f:rules" in fields_of(before, GIT)
        patch = shifted(before, 20)
        after = await kube.change(patch.ref, patch.operations)
        mine, ours = fields_of(after, GIT), fields_of(after, "modelops")
        assert all(part in mine for part in ("f:hostnames", "f:parentRefs", "f:team", "'f:a'"))
        assert "f:rules" in ours
        assert "f:hostnames" not in ours
        with pytest.raises(Conflict) as refused:
            await kube.apply(web(kind, namespace), field_manager=GIT, force=False)
        assert refused.value.managers == ("modelops",)
        hosts = web(kind, namespace)
        hosts["spec"] = {**after["spec"], "hostnames": ["other.example.com"]}
        again = await kube.apply(hosts, field_manager=GIT, force=False)  # what it says of weights is true
        assert again["spec"]["hostnames"] == ["other.example.com"]

    told(story)


def test_an_edit_that_comes_between_is_a_conflict_and_planned_again(told):
    async def story(kube: Kube, namespace: str) -> None:
        seen = await kube.apply(web("HTTPRoute", namespace), field_manager=GIT)
        store, observer, executor = parts(kube)
        observer.observe("HTTPRoute", "ADDED", seen)
        edited = web("HTTPRoute", namespace)
        edited["spec"]["rules"].insert(0, {"backendRefs": [{"name": "new", "port": 80}]})
        newer = await kube.apply(edited, field_manager=GIT)
        owner = OwnRow.of(newer)
        about = kinds.resource_of("v1", "ConfigMap")
        with pytest.raises(Conflict):
            await executor.execute(about, owner, Plan(patch=(shifted(seen, 20),)))
        untouched = await kube.get(Ref(splitters.ROUTE_API, "HTTPRoute", namespace, "web"))
        assert untouched["metadata"]["resourceVersion"] == newer["metadata"]["resourceVersion"]
        observer.observe("HTTPRoute", "MODIFIED", newer)
        await executor.execute(about, owner, Plan(patch=(shifted(newer, 20),)))
        found = await kube.get(Ref(splitters.ROUTE_API, "HTTPRoute", namespace, "web"))
        assert [b.get("weight") for b in found["spec"]["rules"][1]["backendRefs"]] == [720, 180, 100]
        row = store.get("HTTPRoute", namespace, "web")
        assert row is not None
        assert str(row.resource_version) == found["metadata"]["resourceVersion"]

    told(story)


def test_a_route_that_is_gone_is_let_be(told):
    async def story(kube: Kube, namespace: str) -> None:
        seen = await kube.apply(web("HTTPRoute", namespace), field_manager=GIT)
        await kube.delete(Ref(splitters.ROUTE_API, "HTTPRoute", namespace, "web"))
        _, _, executor = parts(kube)
        await executor.execute(
            kinds.resource_of("v1", "ConfigMap"), OwnRow.of(seen), Plan(patch=(shifted(seen, 20),))
        )

    told(story)


def parts(kube: Kube) -> tuple[Store, Observer, Executor]:
    store, queue = Store(), Queue[Key]()
    watched = (Watched(ROUTES[0], route_rows.route, lambda row, store: ()),)
    observer = Observer(watched, store, queue, Observations(queue.add))
    return store, observer, Executor(kube, store, observer, Recorder(kube, "test", "test"), watched)


# --- our own routes on the real schema ---------------------------------------------------------------

SHARES = Shares((("aaaa1111", 80), ("bbbb2222", 20)))
GATEWAY = Gateway("edge", "gateways")
HOSTS = ("chat.example.com",)


def owner(namespace: str) -> Owner:
    return Owner(namespace, "chat", "28e53212-0000-4000-8000-000000000000")


def test_the_schema_takes_every_route_of_ours_as_it_is_written(told):
    async def story(kube: Kube, namespace: str) -> None:
        here, matches = (
            owner(namespace),
            (Matched("x-beta", "yes", is_cookie=False), Matched("b", "1", is_cookie=True)),
        )
        pinned = splitters.Affinity("chat-8c1f", timedelta(minutes=30), PinnedBy.COOKIE)
        for wanted in (
            splitters.route(here, GATEWAY, hostnames=HOSTS, path="/v1", shares=SHARES, affinity=pinned),
            splitters.route(
                here,
                GATEWAY,
                hostnames=HOSTS,
                path="/",
                shares=Shares(SHARES.weights, ("bbbb2222", 25), "bbbb2222"),
                matches=matches,
            ),
            splitters.grpc_route(
                here, GATEWAY, hostnames=HOSTS, weights=SHARES.weights, matched="bbbb2222", matches=matches
            ),
        ):
            stored = await kube.apply(wanted)
            row = route_rows.route(stored)
            assert not route_rows.route_drifted(row, wanted)
            assert row.ours.weights == (("chat-aaaa1111", 80), ("chat-bbbb2222", 20))

    told(story)


def test_the_standard_schema_refuses_session_persistence_aloud(told):
    """So a gateway that lists it, beside definitions that lack it, stalls a step and says why."""

    async def story(kube: Kube, namespace: str) -> None:
        pinned = splitters.Affinity("chat-8c1f", timedelta(minutes=30))
        wanted = splitters.route(
            owner(namespace), GATEWAY, hostnames=HOSTS, path="/", shares=SHARES, affinity=pinned
        )
        with pytest.raises(ApiError) as refused:
            await kube.apply(wanted)
        assert "sessionPersistence" in str(refused.value)

    told(story)
