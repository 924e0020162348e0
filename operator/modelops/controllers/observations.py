"""Keep what came from outside the cluster's objects, and wake the roots that it is about."""

from collections.abc import Callable, Mapping
from typing import Any

from modelops.controllers.store import Key
from modelops.plan import Reason

REFUSED = "refused"
"""Topic under which the worker leaves the refusal of the last write, so that the plan can tell it."""

_NOTHING: Mapping[str, tuple[int, Any]] = {}


class Observations:
    """The last value of each topic about each root: samples, a node's report, a refusal."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._values: dict[Key, dict[str, tuple[int, Any]]] = {}
        self._count = 0

    def put(self, key: Key, topic: str, value: Any) -> None:
        """Keep *value* and plan *key* again; an equal value wakes nobody, None removes it."""
        topics = self._values.get(key, {})
        if self.get(key, topic) == value:
            return
        if value is None:
            del topics[topic]
        else:
            self._count += 1
            self._values.setdefault(key, topics)[topic] = self._count, value
        if not topics:
            self._values.pop(key, None)
        self._wake(key)

    def get(self, key: Key, topic: str) -> Any | None:
        """Return the last value, or None."""
        found = self._values.get(key, _NOTHING).get(topic)
        return None if found is None else found[1]

    def count(self, key: Key, topic: str) -> int:
        """Return a number that is another one for each value that was put; 0 without a value."""
        found = self._values.get(key, _NOTHING).get(topic)
        return 0 if found is None else found[0]

    def refused(self, key: Key) -> Reason | None:
        """Return why the last write for *key* was refused by a policy, or None."""
        found = self.get(key, REFUSED)
        return found if isinstance(found, Reason) else None

    def purge(self, key: Key) -> None:
        """Drop all that is known about a root that is gone."""
        self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)
