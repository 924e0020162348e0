"""What goes wrong with which request: chosen by verb, kind, name, identity and count."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.fakeapi.answers import Refusal
from tests.fakeapi.requests import Asked


class Drop(Exception):
    """The connection is cut instead of an answer."""


@dataclass(frozen=True)
class Match:
    """Which requests; an empty field means any."""

    verb: str = ""
    """Of RBAC, or ``write`` for all that write."""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    identity: str = ""
    subresource: str | None = None
    """None: any; "" is the object itself."""
    page: int | None = None
    """Of a list: this page only, 0 is the first."""
    when: Callable[[Asked], bool] = lambda asked: True

    def __call__(self, asked: Asked) -> bool:
        is_verb = asked.is_write if self.verb == "write" else self.verb in ("", asked.verb)
        fields = ("kind", "name", "namespace", "identity")
        return (
            is_verb
            and all(getattr(self, name) in ("", getattr(asked, name)) for name in fields)
            and self.subresource in (None, asked.subresource)
            and self.page in (None, asked.page)
            and self.when(asked)
        )


class Barrier:
    """Requests wait here until the test lets them go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._open.wait()


@dataclass(eq=False)
class Fault:
    """What happens to the requests that match; fields are carried out in this order.

    ``is_after`` says on which side of the commit.  After it a refusal is a lie about what was done.
    """

    match: Match
    delay: float = 0.0
    hangs: bool = False
    barrier: Barrier | None = None
    refusal: Refusal | None = None
    drops: bool = False
    tells: Callable[[Asked], None] | None = None
    """Called first; to change the world at this very moment."""
    is_stall: bool = False
    """Of a watch: accepted, and silent for ever."""
    line: bytes | None = None
    """Of a watch: sent first; without an end of line it is a cut one, and the connection ends."""
    is_after: bool = False
    times: int | None = None
    """For so many requests; None: until it is lifted."""
    skips: int = 0
    """So many matching requests pass first."""
    hits: int = 0

    async def happen(self, asked: Asked) -> None:
        """Do to a request what was wanted.

        Raises:
            Refusal: it is answered so.
            Drop: it is cut.
        """
        if self.tells:
            self.tells(asked)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.barrier:
            await self.barrier.wait()
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusal:
            raise replace(self.refusal)
        if self.drops:
            raise Drop


@dataclass
class Faults:
    """Everything that is wrong now."""

    active: list[Fault] = field(default_factory=list)

    def add(self, match: Match, **what: object) -> Fault:
        """Begin a fault and return it; *what* are fields of `Fault`."""
        fault = Fault(match, **what)  # type: ignore[arg-type]
        self.active.append(fault)
        return fault

    def lift(self, fault: Fault | None = None) -> None:
        """End one fault, or all."""
        self.active = [] if fault is None else [one for one in self.active if one is not fault]

    def of(self, asked: Asked, *, is_after: bool) -> Iterator[Fault]:
        """Yield the faults that happen to this request on this side of its commit, counting them."""
        for fault in tuple(self.active):
            if fault.is_after is not is_after or not fault.match(asked):
                continue
            if fault.skips > 0:
                fault.skips -= 1
                continue
            if fault.times is not None and fault.hits >= fault.times:
                continue
            fault.hits += 1
            yield fault
