"""What the fake API server claims to do as the real one does; tests run each against both.

A behaviour is a function of a `Place` that asserts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from modelops.clients import kinds
from modelops.clients.errors import Conflict, Invalid, NotFound
from modelops.clients.kinds import Resource
from modelops.clients.kube import Kube
from modelops.plan import Manifest, Ref

THING = Resource("fakeapi.example.com/v1", "Thing", "things")
CONFIG_MAPS = kinds.resource_of("v1", "ConfigMap")
ABSENT = Resource("absent.example.com/v1", "Nothing", "nothings")
LEASE_API = "coordination.k8s.io/v1"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
kinds.register(THING)
kinds.register(ABSENT)

_CONDITION = {"type": "object", "properties": {n: {"type": "string"} for n in ("type", "status", "reason")}}
CRD: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.fakeapi.example.com"},
    "spec": {
        "group": "fakeapi.example.com",
        "scope": "Namespaced",
        "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                                "properties": {
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {**_CONDITION, "required": ["type"]},
                                    }
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


@dataclass(frozen=True)
class Place:
    """A connection, and a namespace in which nobody else writes."""

    kube: Kube
    namespace: str

    def config_map(self, name: str = "c", data: Manifest | None = None, **meta: Any) -> Manifest:
        named = {"namespace": self.namespace, "name": name, **meta}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": data or {"a": "1"}}

    def thing(self, name: str = "t", **parts: Any) -> Manifest:
        meta = {"namespace": self.namespace, "name": name, **parts.pop("meta", {})}
        return {"apiVersion": THING.api_version, "kind": "Thing", "metadata": meta, **parts}

    def ref(self, kind: str = "ConfigMap", name: str = "c", **more: str) -> Ref:
        return Ref(THING.api_version if kind == "Thing" else "v1", kind, self.namespace, name, **more)

    def deployment(self) -> Manifest:
        container = {"name": "c", "image": "i:1", "ports": [{"containerPort": 80}]}
        container["resources"] = {"requests": {"cpu": "1000m"}}
        labels = {"a": "b"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        meta = {"namespace": self.namespace, "name": "d"}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def version(obj: Manifest) -> str:
    return str(obj["metadata"]["resourceVersion"])


def condition(type_: str, status: str = "True") -> Manifest:
    return {"type": type_, "status": status, "reason": "Because"}


def _entries(obj: Manifest, manager: str) -> list[Manifest]:
    return [entry for entry in obj["metadata"]["managedFields"] if entry["manager"] == manager]


def types(obj: Manifest) -> list[str]:
    return sorted(c["type"] for c in obj["status"].get("conditions", ()))


async def until(question: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < end, "never"
        await asyncio.sleep(0.1)


# --- apply -------------------------------------------------------------------------------------------


async def an_equal_apply_changes_neither_version_nor_generation(at: Place) -> None:
    first = await at.kube.apply(at.deployment())
    second = await at.kube.apply(at.deployment())
    for one in (first, second):
        assert one["metadata"]["generation"] == 1
    # The Deployment controller of a whole cluster writes the status meanwhile.
    assert _entries(first, "modelops") == _entries(second, "modelops")
    again = await at.kube.apply(at.config_map())
    assert version(again) == version(await at.kube.apply(at.config_map()))


async def what_the_next_apply_leaves_out_is_removed(at: Place) -> None:
    await at.kube.apply(at.thing(spec={"a": "1", "deep": {"b": "2", "c": "3"}}))
    found = await at.kube.apply(at.thing(spec={"deep": {"b": "2"}}))
    assert found["spec"] == {"deep": {"b": "2"}}


async def what_an_update_wrote_stays_when_an_apply_leaves_it_out(at: Place) -> None:
    await at.kube.create(at.config_map(data={"a": "1", "b": "2"}))
    found = await at.kube.apply(at.config_map(data={"a": "1"}))
    assert found["data"] == {"a": "1", "b": "2"}


async def two_managers_share_a_list_of_conditions(at: Place) -> None:
    made = await at.kube.create(at.thing(spec={}))
    one = at.thing(status={"conditions": [condition("One"), condition("Two")]})
    await at.kube.apply_status(one)
    other = at.thing(status={"conditions": [condition("Other")]})
    found = await at.kube.apply_status(other, field_manager="somebody")
    assert types(found) == ["One", "Other", "Two"]
    found = await at.kube.apply_status(at.thing(status={"conditions": [condition("One")]}))
    assert types(found) == ["One", "Other"]
    assert found["metadata"]["generation"] == made["metadata"]["generation"]


async def a_merge_patch_replaces_a_list_whole(at: Place) -> None:
    await at.kube.create(at.thing(spec={}))
    await at.kube.apply_status(at.thing(status={"conditions": [condition("One"), condition("Two")]}))
    body = {"status": {"conditions": [condition("Three")]}}
    assert types(await at.kube.patch(at.ref("Thing", "t"), body, MERGE, "status")) == ["Three"]


async def a_version_in_the_body_is_a_precondition(at: Place) -> None:
    made = await at.kube.apply(at.config_map())
    await at.kube.apply(at.config_map(data={"a": "2"}, resourceVersion=version(made)))
    with pytest.raises(Conflict):
        await at.kube.apply(at.config_map(data={"a": "3"}, resourceVersion=version(made)))
    stale = {"metadata": {"resourceVersion": version(made)}, "data": {"a": "4"}}
    with pytest.raises(Conflict):
        await at.kube.patch(at.ref(), stale, MERGE)
    assert (await at.kube.get(at.ref()))["data"] == {"a": "2"}


async def another_uid_is_refused_on_the_main_path_and_taken_on_the_status(at: Place) -> None:
    await at.kube.create(at.thing(spec={}))
    wrong = {"meta": {"uid": "0f0f0f0f"}}
    with pytest.raises(Invalid):
        await at.kube.apply(at.thing(spec={"a": "1"}, **wrong))
    await at.kube.apply_status(at.thing(status={"a": "1"}, **wrong))
    with pytest.raises(Conflict):
        await at.kube.apply(at.thing("absent", spec={}, **wrong))


async def a_version_alone_keeps_no_apply_from_creating(at: Place) -> None:
    """So an apply to what is known always carries the uid too."""
    await at.kube.apply(at.config_map("absent", resourceVersion="1"))
    await at.kube.get(at.ref(name="absent"))


async def an_apply_creates_but_never_by_the_status(at: Place) -> None:
    with pytest.raises(NotFound):
        await at.kube.apply_status(at.thing(status={"a": "1"}))
    made = await at.kube.apply(at.thing(spec={}, status={"a": "1"}))
    assert "status" not in made


async def an_apply_without_force_names_whom_it_would_overwrite(at: Place) -> None:
    await at.kube.apply(at.config_map(), field_manager="somebody")
    await at.kube.apply(at.config_map(), force=False)  # an equal value is shared
    with pytest.raises(Conflict) as refused:
        await at.kube.apply(at.config_map(data={"a": "2"}), force=False)
    assert refused.value.managers == ("somebody",)
    assert (await at.kube.apply(at.config_map(data={"a": "2"})))["data"] == {"a": "2"}


async def what_is_stored_is_not_what_was_sent(at: Place) -> None:
    found = await at.kube.apply(at.deployment())
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "1"
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert found["spec"]["replicas"] == 1


async def a_bare_object_is_filled_by_an_apply_under_its_version(at: Place) -> None:
    made = await at.kube.create(at.thing(spec={}))
    known = {name: made["metadata"][name] for name in ("uid", "resourceVersion")}
    with pytest.raises(Conflict):
        await at.kube.create(at.thing(spec={}))
    found = await at.kube.apply(at.thing(spec={"rules": [1]}, meta=known))
    assert found["spec"] == {"rules": [1]}
    with pytest.raises(Conflict):
        await at.kube.apply(at.thing(spec={"rules": [2]}, meta=known))


# --- other writes ------------------------------------------------------------------------------------


async def only_the_spec_moves_the_generation_and_each_path_its_part(at: Place) -> None:
    await at.kube.create(at.thing(spec={"a": "1"}))
    both = {"spec": {"a": "2"}, "status": {"b": "1"}, "metadata": {"labels": {"x": "y"}}}
    found = await at.kube.patch(at.ref("Thing", "t"), both, MERGE, "status")
    assert (found["spec"], found["status"]) == ({"a": "1"}, {"b": "1"})
    assert found["metadata"]["generation"] == 1
    found = await at.kube.patch(at.ref("Thing", "t"), {**both, "status": {"b": "2"}}, MERGE)
    assert (found["spec"], found["status"]) == ({"a": "2"}, {"b": "1"})
    assert found["metadata"]["generation"] == 2


async def an_equal_patch_changes_nothing(at: Place) -> None:
    made = await at.kube.create(at.config_map())
    assert version(await at.kube.patch(at.ref(), {"data": {"a": "1"}}, MERGE)) == version(made)


async def a_replace_compares_the_version(at: Place) -> None:
    lease = {"apiVersion": LEASE_API, "kind": "Lease", "metadata": at.config_map("l")["metadata"]}
    made = await at.kube.create_lease({**lease, "spec": {"holderIdentity": "a"}})
    second = await at.kube.replace_lease({**made, "spec": {"holderIdentity": "b"}})
    assert second["spec"]["holderIdentity"] == "b"
    with pytest.raises(Conflict):
        await at.kube.replace_lease({**made, "spec": {"holderIdentity": "c"}})
    with pytest.raises(Conflict):
        await at.kube.create_lease(lease)


async def a_test_in_a_json_patch_holds_back_all_of_it(at: Place) -> None:
    made = await at.kube.create(at.config_map())
    change = {"op": "replace", "path": "/data/a", "value": "2"}
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": version(made)}
    await at.kube.patch(at.ref(), [test, change], JSON_PATCH)
    with pytest.raises(Invalid):
        await at.kube.patch(at.ref(), [test, {**change, "value": "3"}], JSON_PATCH)
    assert (await at.kube.get(at.ref()))["data"] == {"a": "2"}


async def a_json_patch_to_another_version_is_a_conflict(at: Place) -> None:
    """So single fields of other people's objects are changed in the version that was seen, or not at all."""
    made = await at.kube.apply(at.config_map(data={"a": "1", "b": "1"}), field_manager="somebody")
    seen = replace(at.ref(), resource_version=version(made))
    await at.kube.change(seen, [{"op": "replace", "path": "/data/a", "value": "2"}])
    with pytest.raises(Conflict):
        await at.kube.change(seen, [{"op": "replace", "path": "/data/a", "value": "3"}])
    found = await at.kube.get(at.ref())
    assert found["data"] == {"a": "2", "b": "1"}
    gone = replace(seen, name="absent")
    with pytest.raises(NotFound):
        await at.kube.change(gone, [{"op": "replace", "path": "/data/a", "value": "3"}])


async def a_dry_run_stores_nothing(at: Place) -> None:
    await at.kube.create(at.config_map(), dry_run=True)
    with pytest.raises(NotFound):
        await at.kube.get(at.ref())


# --- the end of objects ------------------------------------------------------------------------------


async def a_delete_holds_to_its_preconditions(at: Place) -> None:
    made = await at.kube.create(at.config_map())
    changed = await at.kube.patch(at.ref(), {"data": {"a": "2"}}, MERGE)
    for wrong in ({"uid": "0f0f0f0f"}, {"resource_version": version(made)}):
        with pytest.raises(Conflict):
            await at.kube.delete(at.ref(**wrong))
    await at.kube.delete(at.ref(uid=made["metadata"]["uid"], resource_version=version(changed)))
    with pytest.raises(NotFound):
        await at.kube.get(at.ref())


async def a_finalizer_keeps_an_object_until_it_is_taken_off(at: Place) -> None:
    await at.kube.create(at.config_map(finalizers=["example.com/hold"]))
    await at.kube.delete(at.ref())
    going = await at.kube.get(at.ref())
    assert going["metadata"]["deletionTimestamp"]
    await at.kube.delete(at.ref())
    await at.kube.patch(at.ref(), [{"op": "remove", "path": "/metadata/finalizers"}], JSON_PATCH)
    with pytest.raises(NotFound):
        await at.kube.get(at.ref())


async def an_object_of_the_same_name_is_another_one(at: Place) -> None:
    first = await at.kube.create(at.config_map())
    await at.kube.delete(at.ref())
    second = await at.kube.create(at.config_map())
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    with pytest.raises(Conflict):
        await at.kube.delete(replace(at.ref(), uid=first["metadata"]["uid"]))


async def what_lost_its_owner_goes_a_while_later(at: Place) -> None:
    owner = await at.kube.create(at.config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    await at.kube.create(at.config_map("owned", ownerReferences=[reference]))
    await at.kube.delete(at.ref(name="owner"))
    # Who creates late names an owner that is gone already.
    await at.kube.create(at.config_map("late", ownerReferences=[reference]))

    async def are_gone() -> bool:
        pages = [page async for page in at.kube.pages(CONFIG_MAPS, at.namespace)]
        names = {item["metadata"]["name"] for page in pages for item in page.items}
        return not names & {"owned", "late"}

    await until(are_gone)


# --- reading -----------------------------------------------------------------------------------------


async def a_list_in_pages_is_of_one_version(at: Place) -> None:
    for number in range(5):
        await at.kube.create(at.config_map(f"c{number}", labels={"page": "yes"}))
    pages = []
    async for page in at.kube.pages(CONFIG_MAPS, at.namespace, labels="page=yes"):
        pages.append(page)
        await at.kube.apply(at.config_map(f"between{len(pages)}", labels={"page": "yes"}))
        if len(pages) == 1:
            await at.kube.delete(at.ref(name="c4"))
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert [item["metadata"]["name"] for page in pages for item in page.items] == [f"c{n}" for n in range(5)]
    assert len({page.resource_version for page in pages}) == 1


async def metadata_alone_has_no_content(at: Place) -> None:
    await at.kube.create(at.thing(spec={"a": "1"}))
    (page,) = [page async for page in at.kube.pages(THING, at.namespace, metadata_only=True)]
    (item,) = page.items
    assert item["metadata"]["name"] == "t"
    assert "spec" not in item


async def a_watch_replays_what_came_after_its_version(at: Place) -> None:
    made = await at.kube.create(at.config_map(labels={"x": "y"}))
    await at.kube.patch(at.ref(), {"data": {"a": "2"}}, MERGE)
    await at.kube.patch(at.ref(), {"metadata": {"labels": {"x": "z"}}}, MERGE)  # it loses the label
    await at.kube.patch(at.ref(), {"data": {"a": "3"}}, MERGE)
    await at.kube.patch(at.ref(), {"metadata": {"labels": {"x": "y"}}}, MERGE)  # and gets it again
    await at.kube.delete(at.ref())
    seen: list[tuple[str, str]] = []
    versions = []
    stream = at.kube.watch(CONFIG_MAPS, version(made), at.namespace, labels="x=y", seconds=5)
    async with asyncio.timeout(10):
        async for event in stream:
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object["data"]["a"]))
                versions.append(int(version(event.object)))
            if len(seen) == 4:
                break
    await stream.aclose()
    assert [type_ for type_, _ in seen] == ["MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert versions == sorted(set(versions)), "a deletion has a version of its own"


async def a_kind_that_is_not_there_is_not_found(at: Place) -> None:
    assert not await at.kube.serves(ABSENT)
    assert await at.kube.serves(THING)
    named = {"namespace": at.namespace, "name": "n"}
    nothing = {"apiVersion": ABSENT.api_version, "kind": "Nothing", "metadata": named}
    with pytest.raises(NotFound):
        await anext(at.kube.pages(ABSENT, at.namespace))
    with pytest.raises(NotFound):
        await anext(at.kube.watch(ABSENT, "1", at.namespace))
    with pytest.raises(NotFound):
        await at.kube.apply(nothing)


BEHAVIOURS = (
    an_equal_apply_changes_neither_version_nor_generation,
    what_the_next_apply_leaves_out_is_removed,
    what_an_update_wrote_stays_when_an_apply_leaves_it_out,
    two_managers_share_a_list_of_conditions,
    a_merge_patch_replaces_a_list_whole,
    a_version_in_the_body_is_a_precondition,
    another_uid_is_refused_on_the_main_path_and_taken_on_the_status,
    a_version_alone_keeps_no_apply_from_creating,
    an_apply_creates_but_never_by_the_status,
    an_apply_without_force_names_whom_it_would_overwrite,
    what_is_stored_is_not_what_was_sent,
    a_bare_object_is_filled_by_an_apply_under_its_version,
    only_the_spec_moves_the_generation_and_each_path_its_part,
    an_equal_patch_changes_nothing,
    a_replace_compares_the_version,
    a_test_in_a_json_patch_holds_back_all_of_it,
    a_json_patch_to_another_version_is_a_conflict,
    a_dry_run_stores_nothing,
    a_delete_holds_to_its_preconditions,
    a_finalizer_keeps_an_object_until_it_is_taken_off,
    an_object_of_the_same_name_is_another_one,
    what_lost_its_owner_goes_a_while_later,
    a_list_in_pages_is_of_one_version,
    metadata_alone_has_no_content,
    a_watch_replays_what_came_after_its_version,
    a_kind_that_is_not_there_is_not_found,
)
