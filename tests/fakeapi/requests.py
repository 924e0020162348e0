"""A request as the server understands it, and the log of all of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakeapi.kinds import Served

WRITES = frozenset({"create", "update", "apply", "patch", "delete"})


@dataclass
class Asked:
    """One request, and what became of it."""

    at: float
    """Seconds of the server's monotonic clock."""
    identity: str
    verb: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    page: int = 0
    """Of a list: 0 for the first."""
    code: int | None = None
    """None: no answer was sent."""
    has_landed: bool = False
    """Whether it changed what is stored."""
    version: str = ""
    """The resourceVersion that the write named."""
    ended: float | None = None

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES

    def __str__(self) -> str:
        part = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.kind}{part} {self.namespace}/{self.name}: {self.code}"


@dataclass(frozen=True)
class Where:
    """What a path names: a kind, perhaps an object, perhaps a part of it."""

    kind: Served
    namespace: str
    name: str
    subresource: str


def where(kinds: Mapping[tuple[str, str], Served], path: str) -> Where | None:
    """Return what *path* names; None: nothing that is served."""
    parts = path.strip("/").split("/")
    length = 2 if parts[0] == "api" else 3
    head, rest = "/".join(parts[1:length]), parts[length:]
    namespace = ""
    # A namespace is an object too: /api/v1/namespaces/x, and its status.
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    found = kinds.get((head, rest[0])) if rest else None
    if found is None or len(rest) > 3:
        return None
    name, subresource, *_ = (*rest[1:], "", "")
    return Where(found, namespace, name, subresource)


def verb_of(request: web.Request, named: Where) -> str:
    """Return the verb as RBAC names it, with patches told apart by their kind."""
    match request.method:
        case "GET":
            if named.name:
                return "get"
            return "watch" if request.query.get("watch") in ("true", "1") else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "apply" if "apply-patch" in request.headers.get("Content-Type", "") else "patch"
        case "DELETE":
            return "delete"
        case other:
            return other.lower()


class Log:
    """Every request in the order in which it came."""

    def __init__(self) -> None:
        self.entries: list[Asked] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        """By verb and kind."""
        self.keeps = True
        """False: only counts are kept, as benches want it."""

    def add(self, asked: Asked) -> None:
        self.counts[asked.verb, asked.kind] += 1
        if self.keeps:
            self.entries.append(asked)

    def writes(self, identity: str = "", *, but: tuple[str, ...] = ("Lease",)) -> Iterator[Asked]:
        """Yield the writes of an identity, empty: of all; kinds in *but* are left out."""
        for asked in self.entries:
            if asked.is_write and asked.kind not in but and identity in ("", asked.identity):
                yield asked

    def clear(self) -> None:
        self.entries.clear()
        self.counts.clear()
