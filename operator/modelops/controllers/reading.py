"""What one pass reads, noted, so that a resync can tell whether the same would be read again.

A pass sees the store and the observations through a `Reading` alone.  What stays of it is a `Mark`: the
questions, which are one tuple for all objects that ask alike, and a hash of the answers.
"""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from modelops.controllers.observations import REFUSED, Observations
from modelops.controllers.store import OWNER, Key, OwnRow, Row, Store, Unseen
from modelops.plan import Manifest, Reason

T = TypeVar("T")

Question = tuple[Any, ...]
"""What is asked, and about what."""

_GET, _FIND, _UNSEEN, _OBSERVATION = "get", "find", "unseen", "observation"


class Reading:
    """The store and the observations, as the pass of one object sees them.

    An answer is noted by the versions of its rows: one counter orders them, so a row that came again has a
    higher one.
    """

    def __init__(self, key: Key, store: Store, observations: Observations) -> None:
        self.key = key
        self._store = store
        self._observations = observations
        self._asked: dict[Question, object] = {}
        self._objects: dict[tuple[str, str, int], Manifest] = {}
        self.can_be_marked = True
        """False: something was looked at that is too much to be noted."""

    def get(self, kind: str, namespace: str | None, name: str) -> Row | None:
        """Return the row, or None."""
        row = self._store.get(kind, namespace, name)
        self._note((_GET, kind, namespace or "", name), row and row.resource_version)
        return row

    def find(self, kind: str, index: str, value: str) -> tuple[Row, ...]:
        """Return the rows of *kind* that the index holds under *value*, by namespace and name."""
        rows = self._store.find(kind, index, value)
        self._note((_FIND, kind, index, value), _versions(rows))
        return rows

    def owned(self, kind: str, uid: str) -> tuple[Row, ...]:
        """Return the rows of *kind* whose controller is *uid*, by namespace and name."""
        return self.find(kind, OWNER, uid)

    def observation(self, key: Key, topic: str) -> Any | None:
        """Return the last value of an observation about *key*, or None."""
        self._note((_OBSERVATION, *key, topic), self._observations.count(key, topic))
        return self._observations.get(key, topic)

    def unseen(self, kind: str) -> Unseen | None:
        """Return why *kind* cannot be seen; None: it can."""
        found = self._store.unseen(kind)
        self._note((_UNSEEN, kind), found)
        return found

    def refused(self) -> Reason | None:
        """Return why the last write for the object was refused by a policy, or None."""
        found = self.observation(self.key, REFUSED)
        return found if isinstance(found, Reason) else None

    def loaded(self, row: OwnRow) -> Manifest:
        """Return the whole object of an own kind, unpacked once a pass; it is not to be changed."""
        place = row.namespace, row.name, row.resource_version
        if place not in self._objects:
            self._objects[place] = dict(json.loads(row.json))
        return self._objects[place]

    def _note(self, question: Question, answer: object) -> None:
        # The first answer counts: the plan was made from it, and writes may have changed it since.
        self._asked.setdefault(question, answer)

    # --- what is kept --------------------------------------------------------------------------------

    def mark(self, uid: str) -> "Mark":
        """Return what was read, for the object of that *uid*."""
        own = {word: place for place, word in enumerate(_own(self.key, uid))}
        questions = tuple([tuple([own.get(word, word) for word in question]) for question in self._asked])
        return Mark(_one_of_all(questions), hash(tuple(self._asked.values())))

    def part(self) -> "Reading":
        """Return a reading of its own; `join` adds what it asked."""
        return Reading(self.key, self._store, self._observations)

    def join(self, asked: dict[Question, object]) -> None:
        """Count as asked what another reading asked."""
        for question, answer in asked.items():
            self._note(question, answer)

    @property
    def asked(self) -> dict[Question, object]:
        """Every question with its answer."""
        return self._asked

    def is_true_still(self, asked: dict[Question, object]) -> bool:
        """Return whether every question would be answered in the same way now."""
        store, observations = self._store, self._observations
        return all(_answer(store, observations, question) == asked[question] for question in asked)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a pass read: some 100 bytes."""

    questions: tuple[Question, ...]
    """A number stands for the object's own namespace, name, both, or uid."""
    answers: int
    """Hash of all answers, in order."""

    def holds(self, key: Key, uid: str, store: Store, observations: Observations) -> bool:
        """Return whether a pass would read the same."""
        own = _own(key, uid)
        answers = [
            _answer(store, observations, [own[word] if type(word) is int else word for word in question])
            for question in self.questions
        ]
        return hash(tuple(answers)) == self.answers


class Memory(Generic[T]):
    """What was made of things that many objects read alike, such as the version that they all run."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: dict[Hashable, tuple[dict[Question, object], T]] = {}

    def recall(self, reading: Reading, what: Hashable, make: Callable[[Reading], T]) -> T:
        """Return what *make* returns; it is asked again when something that it read has changed.

        *make* reads through its argument alone, and its result is never changed.
        """
        known = self._kept.get(what)
        if known is None or not reading.is_true_still(known[0]):
            part = reading.part()
            known = self._kept[what] = part.asked, make(part)
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]
        asked, made = known
        reading.join(asked)
        return made


def _own(key: Key, uid: str) -> tuple[str, str, str, str]:
    return key.namespace, key.name, f"{key.namespace}/{key.name}", uid


@lru_cache(maxsize=4096)
def _one_of_all(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    """Return the one tuple that equals *questions*."""
    return questions


def _answer(store: Store, observations: Observations, question: Question | list[Any]) -> object:
    match question[0]:
        case "get":
            row = store.get(*question[1:])
            return row and row.resource_version
        case "find":
            return _versions(store.find(*question[1:]))
        case "unseen":
            return store.unseen(question[1])
        case _:
            *key, topic = question[1:]
            return observations.count(Key(*key), topic)


def _versions(rows: tuple[Row, ...]) -> tuple[int, ...]:
    return tuple([row.resource_version for row in rows])
