"""What a pass read, and whether it would read the same again."""

import pytest

from modelops.controllers.observations import Observations
from modelops.controllers.reading import Memory, Reading
from modelops.controllers.store import Key, Row, Store, Unseen

MINE, OTHER = Key("Widget", "n", "w"), Key("Widget", "m", "v")


class World:
    """A store with a Widget of each namespace, its Pods, and a shared Policy."""

    def __init__(self) -> None:
        self.store = Store()
        self.observations = Observations(lambda key: None)
        self.version = 0
        self.store.add_index("Policy", "all", lambda row: ("all",))
        for key in (MINE, OTHER):
            self.put("Widget", key.namespace, key.name)
            self.put("Pod", key.namespace, "p", owner=self.uid(key))
        self.put("Policy", "", "shared")

    def put(self, kind: str, namespace: str, name: str, owner: str = "") -> None:
        self.version += 1
        row = Row(
            namespace=namespace,
            name=name,
            uid=f"{kind}/{namespace}/{name}",
            resource_version=self.version,
            owner=owner,
        )
        assert self.store.put(kind, row)

    def drop(self, kind: str, namespace: str, name: str) -> None:
        assert self.store.drop(kind, namespace, name, f"{kind}/{namespace}/{name}")

    def uid(self, key: Key) -> str:
        return f"Widget/{key.namespace}/{key.name}"

    def read(self, key: Key) -> Reading:
        """Read as a pass of *key* does."""
        reading = Reading(key, self.store, self.observations)
        reading.get(*key)
        reading.get("Absent", key.namespace, key.name)
        reading.owned("Pod", self.uid(key))
        reading.find("Policy", "all", "all")
        reading.unseen("Node")
        reading.refused()
        reading.observation(key, "samples")
        return reading

    def holds(self, mark, key: Key) -> bool:
        return mark.holds(key, self.uid(key), self.store, self.observations)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda world: world.put("Widget", "n", "w"), id="the object itself is newer"),
        pytest.param(lambda world: world.put("Absent", "n", "w"), id="what was absent is there"),
        pytest.param(lambda world: world.put("Pod", "n", "p", owner="Widget/n/w"), id="a child is newer"),
        pytest.param(lambda world: world.put("Pod", "n", "q", owner="Widget/n/w"), id="a child more"),
        pytest.param(lambda world: world.put("Pod", "n", "p", owner="other"), id="a child of another owner"),
        pytest.param(lambda world: world.drop("Pod", "n", "p"), id="a child less"),
        pytest.param(lambda world: world.put("Policy", "", "another"), id="one more is found"),
        pytest.param(lambda world: world.drop("Policy", "", "shared"), id="nothing is found any more"),
        pytest.param(lambda world: world.store.lose("Node", Unseen(True, "no")), id="a kind is not seen"),
        pytest.param(lambda world: world.observations.put(MINE, "samples", 1), id="an observation"),
        pytest.param(lambda world: world.observations.put(MINE, "refused", 1), id="a refusal"),
    ],
)
def test_a_mark_holds_until_an_answer_is_another_one(change):
    world = World()
    mark = world.read(MINE).mark(world.uid(MINE))
    assert world.holds(mark, MINE)
    change(world)
    assert not world.holds(mark, MINE)


def test_a_mark_does_not_mind_what_was_not_asked():
    world = World()
    mark = world.read(MINE).mark(world.uid(MINE))
    world.put("Widget", "m", "v")
    world.put("Pod", "m", "q", owner=world.uid(OTHER))
    world.observations.put(OTHER, "samples", 1)
    world.observations.put(MINE, "something else", 1)
    assert world.holds(mark, MINE)


def test_a_value_put_anew_is_another_one_though_the_last_was_equal():
    world = World()
    world.observations.put(MINE, "samples", 1)
    mark = world.read(MINE).mark(world.uid(MINE))
    world.observations.put(MINE, "samples", 2)
    world.observations.put(MINE, "samples", 1)
    assert not world.holds(mark, MINE)


def test_objects_that_ask_alike_share_their_questions():
    world = World()
    marks = [world.read(key).mark(world.uid(key)) for key in (MINE, OTHER)]
    assert marks[0].questions is marks[1].questions
    assert marks[0].answers != marks[1].answers
    assert not world.holds(marks[0], OTHER)


def test_what_was_made_of_shared_things_is_made_again_when_one_changed():
    world, made = World(), []

    def make(part: Reading) -> int:
        made.append(len(part.find("Policy", "all", "all")))
        return made[-1]

    memory: Memory[int] = Memory()
    assert [memory.recall(world.read(key), "policies", make) for key in (MINE, OTHER)] == [1, 1]
    world.put("Widget", "n", "w")
    assert (memory.recall(world.read(MINE), "policies", make), made) == (1, [1])
    world.put("Policy", "", "another")
    assert (memory.recall(world.read(MINE), "policies", make), made) == (2, [1, 2])


def test_what_a_memory_read_counts_as_read_by_who_recalls_it():
    world = World()
    memory: Memory[int] = Memory()
    for _ in range(2):
        reading = Reading(MINE, world.store, world.observations)
        memory.recall(reading, "policies", lambda part: len(part.find("Policy", "all", "all")))
        mark = reading.mark(world.uid(MINE))
    assert world.holds(mark, MINE)
    world.put("Policy", "", "another")
    assert not world.holds(mark, MINE)


def test_a_memory_forgets_the_oldest():
    world, made = World(), []
    memory: Memory[None] = Memory(most=2)
    for what in "abcab":
        memory.recall(world.read(MINE), what, lambda part, what=what: made.append(what))
    assert made == ["a", "b", "c", "a", "b"]
