"""The store of rows, against a dictionary."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelops.api.names import APPLIED_HASH
from modelops.controllers.store import OwnRow, Row, Store
from tests.serving.situations import NAMESPACE, serving

NAMES = st.sampled_from("abc")
UIDS = st.sampled_from("uvw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Row):
    """A row with something to be found by."""

    labels: tuple[str, ...]


class Model(RuleBasedStateMachine):
    """Puts and drops in any order; the dictionary says what must be found."""

    def __init__(self):
        super().__init__()
        self.store = Store()
        self.store.add_index("Pod", "label", lambda row: row.labels)
        self.told = []
        self.store.on_change("Pod", lambda before, after: self.told.append((before, after)))
        self.rows = {}
        self.buried = {}

    @rule(name=NAMES, uid=UIDS, version=st.integers(1, 30), owner=UIDS, labels=st.sets(st.sampled_from("xy")))
    def put(self, name, uid, version, owner, labels):
        row = Labelled(
            namespace="n",
            name=name,
            uid=uid,
            resource_version=version,
            owner=owner,
            labels=tuple(sorted(labels)),
        )
        before = self.rows.get(name)
        least = before.resource_version if before else self.buried.get(name, 0)
        self.told.clear()
        assert self.store.put("Pod", row) is (version > least)
        assert self.told == ([(before, row)] if version > least else [])
        if version > least:
            self.rows[name] = row

    @rule(name=NAMES, uid=UIDS, version=st.integers(1, 30))
    def drop(self, name, uid, version):
        row = self.rows.get(name)
        self.told.clear()
        dropped = self.store.drop("Pod", "n", name, uid, version)
        assert self.told == ([] if dropped is None else [(dropped, None)])
        if row is None or row.uid != uid:
            assert dropped is None
        else:
            assert dropped == row
            del self.rows[name]
            self.buried[name] = max(version, row.resource_version)

    @invariant()
    def finds_every_row_by_everything(self):
        assert {row.name: row for row in self.store.rows("Pod")} == self.rows
        for owner in "uvw":
            wanted = {row.name for row in self.rows.values() if row.owner == owner}
            assert [row.name for row in self.store.owned("Pod", owner)] == sorted(wanted)
        for label in "xy":
            wanted = {row.name for row in self.rows.values() if label in row.labels}
            assert [row.name for row in self.store.find("Pod", "label", label)] == sorted(wanted)

    @invariant()
    def keeps_no_index_entry_without_a_row(self):
        owners = {row.owner for row in self.rows.values()}
        labels = {label for row in self.rows.values() for label in row.labels}
        assert self.store.sizes == (len(self.rows), len(owners) + len(labels))


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAgainstADictionary = Model.TestCase

OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "namespace": "n",
        "name": "c",
        "uid": "u",
        "resourceVersion": "12",
        "annotations": {APPLIED_HASH: "h"},
        "managedFields": [{"manager": "x"}],
        "ownerReferences": [{"uid": "other"}, {"uid": "boss", "controller": True}],
    },
    "data": {"text": "ä"},
}


def test_a_row_holds_the_controller_and_the_hash_of_what_was_applied():
    row = Row.of(OBJECT)
    assert (row.namespace, row.name, row.uid, row.resource_version) == ("n", "c", "u", 12)
    assert (row.owner, row.applied_hash) == ("boss", "h")


def test_an_own_object_is_kept_whole_but_for_metadata_that_no_plan_reads():
    row = OwnRow.of(OBJECT)
    unread = ("annotations", "managedFields", "resourceVersion")
    wanted = {key: value for key, value in OBJECT["metadata"].items() if key not in unread}
    assert json.loads(row.json) == {**OBJECT, "metadata": wanted}
    assert b": " not in row.json
    assert set(unread) <= OBJECT["metadata"].keys()


def test_an_own_object_is_kept_in_a_fraction_of_its_text():
    service = serving().get("InferenceService", NAMESPACE, "chat")
    row = OwnRow.of(service)
    assert len(row.packed) < len(json.dumps(service, separators=(",", ":"))) / 4
    assert json.loads(row.json)["status"] == service["status"]


def test_the_late_answer_to_a_write_does_not_bring_back_what_is_gone():
    store = Store()
    store.put("Pod", Row(namespace="n", name="p", uid="u", resource_version=5))
    store.drop("Pod", "n", "p", "u", resource_version=9)
    assert not store.put("Pod", Row(namespace="n", name="p", uid="u", resource_version=7))
    assert store.put("Pod", Row(namespace="n", name="p", uid="v", resource_version=10))


def test_cluster_scoped_rows_have_no_namespace():
    store = Store()
    store.put("Node", Row(namespace="", name="node", uid="u", resource_version=1))
    assert store.get("Node", None, "node") is store.get("Node", "", "node") is not None


def test_rows_can_be_asked_by_namespace():
    store = Store()
    for namespace in ("a", "b"):
        store.put("Pod", Row(namespace=namespace, name="p", uid=namespace, resource_version=1))
    assert [row.uid for row in store.rows("Pod", "b")] == ["b"]


def test_an_index_comes_before_the_first_row():
    store = Store()
    store.put("Pod", Row(namespace="n", name="p", uid="u", resource_version=1))
    with pytest.raises(ValueError, match="needs an empty table"):
        store.add_index("Pod", "late", lambda row: ())
