"""The door of the store: who is woken by what was seen."""

import pytest

from modelops.plan import Reason
from tests.controllers.little import Little, key, obj


@pytest.fixture
def little():
    return Little()


def test_an_own_object_wakes_itself_and_a_child_its_owner(little):
    little.observer.observe("Widget", None, obj("Widget", "w", "w", 1))
    assert little.woken() == ["w"]
    little.observer.observe("ConfigMap", "ADDED", obj("ConfigMap", "c", "c", 2, owner="w"))
    assert little.woken() == ["w"]


def test_what_was_seen_before_wakes_nobody(little):
    seen = obj("Widget", "w", "w", 1)
    assert little.observer.observe("Widget", "ADDED", seen)
    little.woken()
    assert not little.observer.observe("Widget", "MODIFIED", seen)
    assert little.woken() == []


def test_the_answer_to_a_write_wakes_the_owner_since_its_watch_event_will_be_refused(little):
    little.observer.observe("ConfigMap", "MODIFIED", obj("ConfigMap", "c", "c", 5, owner="w"))
    assert little.woken() == ["w"]
    little.observer.observe("ConfigMap", "MODIFIED", obj("ConfigMap", "c", "c", 5, owner="w"))
    assert little.woken() == []


def test_a_child_that_moves_to_another_owner_wakes_both(little):
    little.observer.observe("ConfigMap", "ADDED", obj("ConfigMap", "c", "c", 1, owner="w"))
    little.woken()
    little.observer.observe("ConfigMap", "MODIFIED", obj("ConfigMap", "c", "c", 2, owner="v"))
    assert sorted(little.woken()) == ["v", "w"]


def test_an_object_made_again_under_its_name_is_another_one(little):
    little.observer.observe("Widget", "ADDED", obj("Widget", "w", "old", 1))
    little.observations.put(key("w"), "samples", 1)
    little.observer.observe("Widget", "MODIFIED", obj("Widget", "w", "new", 2))
    assert little.store.get("Widget", "n", "w").uid == "new"
    assert little.observations.get(key("w"), "samples") is None


def test_a_deletion_of_the_object_before_does_not_drop_the_one_after(little):
    little.observer.observe("Widget", "ADDED", obj("Widget", "w", "new", 9))
    little.observer.observe("Widget", "DELETED", obj("Widget", "w", "old", 8))
    assert little.store.get("Widget", "n", "w").uid == "new"


def test_an_unreadable_object_demands_a_sweep_and_stops_nobody(little, caplog):
    demanded = []
    little.observer.on_failure = lambda: demanded.append(1)
    assert not little.observer.observe("Widget", "ADDED", {"metadata": {"name": "w"}})
    assert demanded == [1]
    assert "cannot be read" in caplog.text


def test_an_unknown_kind_is_let_pass(little):
    assert not little.observer.observe("Secret", "ADDED", obj("Secret", "s", "s", 1))


def test_ten_thousand_objects_that_came_and_went_leave_nothing(little):
    for number in range(10_000):
        name = f"w{number}"
        little.observer.observe("Widget", "ADDED", obj("Widget", name, name, 2 * number + 1))
        little.observer.observe("ConfigMap", "ADDED", obj("ConfigMap", name, f"c{number}", 1, owner=name))
        little.observations.put(key(name), "samples", number)
        little.queue.add_after(key(name), 60)
    for number in range(10_000):
        name = f"w{number}"
        little.observer.observe("ConfigMap", "DELETED", obj("ConfigMap", name, f"c{number}", 1, owner=name))
        little.observer.observe("Widget", "DELETED", obj("Widget", name, name, 2 * number + 1))
    little.woken()
    assert little.store.sizes == (0, 0)
    assert set(little.queue.sizes) == {0}
    assert len(little.observations) == 0


def test_an_observation_wakes_its_root_only_when_it_says_something_new(little):
    little.observations.put(key("w"), "samples", (1, 2))
    assert little.woken() == ["w"]
    little.observations.put(key("w"), "samples", (1, 2))
    assert little.woken() == []
    little.observations.put(key("w"), "samples", None)
    assert little.woken() == ["w"]
    assert len(little.observations) == 0


def test_a_refusal_is_read_back_as_a_reason(little):
    reason = Reason("NameTaken", "taken")
    little.observations.put(key("w"), "refused", reason)
    assert little.observations.refused(key("w")) == reason
    assert little.observations.refused(key("v")) is None
