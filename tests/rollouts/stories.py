"""Stories over the small cluster: how they are collected, and what must hold at every instant of one."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.rollouts.world import V1, V2, V3, World

Story = Callable[[], None]


class Stories:
    """The stories of one file; each name begins with its number in the specification.

    A story reads as given, when, then, with an empty line between them.
    """

    def __init__(self) -> None:
        self._told: list[Any] = []

    def __call__(self, name: str) -> Callable[[Story], Story]:
        def keep(story: Story) -> Story:
            self._told.append(pytest.param(story, id=name))
            return story

        return keep

    @property
    def test(self) -> Callable[..., None]:
        """Return the test of every story told so far."""

        @pytest.mark.parametrize("story", self._told)
        def test_scenario(story: Story) -> None:
            story()

        return test_scenario


def assert_(holds: bool, sentence: str) -> None:
    assert holds, sentence


def stable_is_defined(world: World) -> None:
    assert world.state.stable is not None


def no_traffic_without_pods(world: World) -> None:
    for revision in (V1, V2, V3):
        assert not world.share(revision) or world.ready(revision), (revision, world.state)


def enough_stable_pods(world: World) -> None:
    """I7: stable can carry its share of the requests."""
    stable = world.state.stable
    assert stable is not None
    assert 100 * world.ready(stable) >= world.share(stable) * world.replicas, world.state
