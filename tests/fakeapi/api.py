"""What a test holds of the fake API server: change the world, break it, and ask what was asked of it."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from modelops.api.names import APPLIED_HASH, FIELD_MANAGER
from modelops.clients.kinds import Resource
from tests.fakeapi import answers
from tests.fakeapi.answers import Refusal
from tests.fakeapi.collector import Collector
from tests.fakeapi.faults import Fault, Faults, Match
from tests.fakeapi.fields import paths
from tests.fakeapi.kinds import Served, custom, served
from tests.fakeapi.requests import Log
from tests.fakeapi.server import Server
from tests.fakeapi.state import Obj, Owner, Place, State, Stored
from tests.fakeapi.verbs import Write, delete
from tests.fakeapi.watches import Cut, error_line

CONTROL = "/_fakeapi/"
"""Below it the public methods are called by name, with ``{"args": [...], "kwargs": {...}}``."""


class FakeApi:
    """The server and every handle on it; ``async with`` runs it in this event loop."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] | None = None,
        start: datetime | None = None,
        collect_after: float | None = 1.0,
        port: int = 0,
    ) -> None:
        """*start* is the wall clock's beginning, carried by *monotonic*; both default to the real ones.

        *collect_after* is the garbage collector's delay in seconds; None: it does not run.
        """
        self._monotonic = monotonic
        self._start = start
        self._port = port
        self._collect_after = collect_after
        self.url = ""
        self.kinds = served()
        self._begin()

    def _begin(self) -> None:
        self.state = State(self.now)
        self.server = Server(self.state, self.kinds, self.seconds)
        self.collector = Collector(self.state, self.kinds, lambda: self._collect_after)

    async def __aenter__(self) -> Self:
        self._epoch = self.seconds()
        patience: dict[str, Any] = {"shutdown_timeout": 0.1, "keepalive_timeout": 1e6}
        self._runner = web.AppRunner(self._app(), access_log=None, **patience)
        await self._runner.setup()
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.collector.close()
        await self.cut()
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post(f"{CONTROL}{{name}}", self._order_from_afar)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return await self.server.handle(request)  # a reset makes another server

    async def _order_from_afar(self, request: web.Request) -> web.Response:
        """Call a method of this class by name: another process holds the test."""
        method = getattr(self, request.match_info["name"])
        given = await request.json() if request.can_read_body else {}
        answer = method(*given.get("args", ()), **given.get("kwargs", {}))
        if asyncio.iscoroutine(answer):
            answer = await answer
        return web.json_response(None if isinstance(answer, Fault) else answer)

    # --- time and place ------------------------------------------------------------------------------

    def seconds(self) -> float:
        if self._monotonic is not None:
            return self._monotonic()
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        if self._start is None:
            return datetime.now(UTC)
        return self._start + timedelta(seconds=self.seconds() - self._epoch)

    def configuration(self, identity: str) -> Configuration:
        """Return what a client needs to come as *identity*."""
        configuration = Configuration(host=self.url, api_key={"BearerToken": identity})
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
        configuration.client_session_kwargs = {"trust_env": False}
        return configuration

    # --- objects -------------------------------------------------------------------------------------

    def kind(self, kind: str) -> Served:
        """Return a kind that is served.

        Raises:
            KeyError: it is not.
        """
        for one in self.kinds.values():
            if one.resource.kind == kind:
                return one
        raise KeyError(kind)

    def seed(self, *objects: Obj, applied_by: str = FIELD_MANAGER) -> None:
        """Store objects as they are, status and uid included; no rule is asked.

        The status of our own kinds, and children with our hash, belong to *applied_by*, as if applied.
        """
        for obj in objects:
            self._seed(json.loads(json.dumps(obj)), applied_by)

    def _seed(self, obj: Obj, applied_by: str) -> Stored:
        kind = self.kind(obj["kind"])
        meta = obj["metadata"]
        resource = kind.resource
        place = Place(resource.api_version, resource.plural, meta.get("namespace") or "", meta["name"])
        before = self.state.get(kind, place.namespace, place.name)
        old = before.fresh()["metadata"] if before else {}
        for name, value in (("uid", old.get("uid")), ("creationTimestamp", self.state.stamp())):
            if not meta.get(name):
                meta[name] = old.get(name) or value or self.state.new_uid(place)
        if kind.has_generation:
            meta["generation"] = meta.get("generation") or old.get("generation") or 1
        return self.state.commit(kind, obj, _owners(kind, obj, applied_by))

    def get(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Return an object as it is stored, or None."""
        stored = self.state.get(self.kind(kind), namespace, name)
        return stored.fresh() if stored else None

    def all(self, kind: str) -> list[Obj]:
        """Return every object of a kind, by namespace and name; of a kind that is not served none."""
        if not any(one.resource.kind == kind for one in self.kinds.values()):
            return []
        return [stored.fresh() for _, stored in sorted(self.state.of(self.kind(kind)).items())]

    def touch(self, kind: str, namespace: str = "", name: str = "") -> int:
        """Write objects without a change that anybody plans from; return how many."""
        touched = 0
        for stored in tuple(self.state.of(self.kind(kind)).values()):
            place = stored.place
            if namespace in ("", place.namespace) and name in ("", place.name):
                obj = stored.fresh()
                notes = obj["metadata"].setdefault("annotations", {})
                notes["fakeapi/touched"] = str(self.state.version)
                self.state.commit(self.kind(kind), obj, stored.owners)
                touched += 1
        return touched

    def edit(self, kind: str, namespace: str, name: str, change: Callable[[Obj], None]) -> None:
        """Change an object in place, as somebody else does; the generation follows the spec."""
        served_ = self.kind(kind)
        stored = self.state.get(served_, namespace, name)
        assert stored is not None, f"{kind} {namespace}/{name} is not there"
        obj, old = stored.fresh(), stored.fresh()
        change(obj)
        if served_.has_generation and obj.get("spec") != old.get("spec"):
            obj["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self.state.commit(served_, obj, stored.owners)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete as a user does."""
        with suppress(Refusal):
            delete(Write(self.state, self.kind(kind), namespace, name), {})

    def delete_silently(self, kind: str, namespace: str, name: str) -> None:
        """Delete without a word to any watch: what a relist after 410 does to a client."""
        stored = self.state.get(self.kind(kind), namespace, name)
        assert stored is not None
        self.state.remove(self.kind(kind), stored, silently=True)

    def recreate(self, kind: str, namespace: str, name: str, *, silently: bool = False) -> None:
        """Delete an object and make another of the same name and content."""
        obj = self.get(kind, namespace, name)
        assert obj is not None
        (self.delete_silently if silently else self.delete)(kind, namespace, name)
        for system in ("uid", "creationTimestamp", "generation", "resourceVersion", "managedFields"):
            obj["metadata"].pop(system, None)
        self.seed(obj)

    # --- kinds ---------------------------------------------------------------------------------------

    def install(self, resource: Resource) -> None:
        """Serve a kind from now on."""
        known = served().get((resource.api_version, resource.plural))
        self.kinds[resource.api_version, resource.plural] = known or custom(resource)

    def withdraw(self, kind: str) -> None:
        """Remove a kind with its objects: paths are gone, streams end."""
        gone = self.kind(kind)
        for stored in tuple(self.state.of(gone).values()):
            self.state.remove(gone, stored)
        for stream in self.server.watches.of(kind):
            stream.order(None)
        del self.kinds[gone.resource.api_version, gone.resource.plural]

    # --- faults --------------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        return self.server.faults

    @property
    def log(self) -> Log:
        return self.server.log

    def fail(self, verb: str = "", kind: str = "", **more: Any) -> Fault:
        """Begin a fault; *more* are fields of `Match` or of `Fault`."""
        chosen = {name: more.pop(name) for name in tuple(more) if name in Match.__dataclass_fields__}
        return self.faults.add(Match(verb, kind, **chosen), **more)

    def tell(self, line: bytes | Refusal, kind: str = "", identity: str = "") -> int:
        """Send a line, or an ERROR event, into open watches; return into how many."""
        text = error_line(line) if isinstance(line, Refusal) else line
        return self._order(text, kind, identity)

    def end(self, kind: str = "", identity: str = "") -> int:
        """End open watches in good order."""
        return self._order(None, kind, identity)

    def hang_up(self, kind: str = "", identity: str = "") -> int:
        """Cut the connections of open watches."""
        return self._order(Cut, kind, identity)

    def stall(self, kind: str = "", identity: str = "") -> int:
        """Keep open watches open and say nothing more to them."""
        streams = tuple(self.server.watches.of(kind, identity))
        for stream in streams:
            stream.is_stalled = True
        return len(streams)

    def _order(self, what: Any, kind: str, identity: str) -> int:
        streams = tuple(self.server.watches.of(kind, identity))
        for stream in streams:
            stream.order(what)
        return len(streams)

    def compact(self) -> None:
        """Forget history, and every list that was begun."""
        self.state.compact()
        self.server.lists.expire()

    def away(self, refusal: Refusal | None = None) -> None:
        """Answer everybody 503, or *refusal*, from now on, and end the watches."""
        self.server.outage = refusal or answers.busy(503)
        self.hang_up()

    def hang(self) -> None:
        """Answer nobody any more."""
        self.server.is_hanging = True
        self.stall()

    def back(self) -> None:
        """End an outage; who was hanging stays so until its client gives up."""
        self.server.outage, self.server.is_hanging = None, False

    async def listen(self) -> None:
        """Take connections again, at the same port."""
        port = int(self.url.rpartition(":")[2]) if self.url else self._port
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def refuse(self) -> None:
        """Refuse every connection, as a server that is down."""
        await self._site.stop()
        await self.cut()

    async def cut(self) -> None:
        """Cut every open watch."""
        self.hang_up()
        await asyncio.sleep(0)

    def reset(self) -> None:
        """Begin anew: no objects, no history, no faults, an empty log."""
        self.collector.close()
        self.hang_up()
        self.kinds = served()
        self._begin()

    def forget(self, *, keeps_log: bool = True) -> None:
        """Empty the log; with *keeps_log* false only counts are kept from now on, as benches want it."""
        self.log.clear()
        self.log.keeps = keeps_log

    def stats(self) -> dict[str, Any]:
        """Return what was asked and what is there, by verb and kind."""
        return {
            "requests": {f"{verb} {kind}".strip(): n for (verb, kind), n in sorted(self.log.counts.items())},
            "objects": {kind.resource.kind: len(self.state.of(kind)) for kind in self.kinds.values()},
            "version": self.state.version,
            "watches": len(self.server.watches.open),
        }


def _owners(kind: Served, obj: Obj, applied_by: str) -> dict[Owner, frozenset[tuple[str, ...]]]:
    """Return who owns what of a seeded object."""
    meta = obj["metadata"]
    labels = {name: meta[name] for name in ("labels", "annotations", "ownerReferences") if meta.get(name)}
    skip = ("apiVersion", "kind", "metadata", "status")
    rest = {name: value for name, value in obj.items() if name not in skip} | {"metadata": labels}
    is_ours = APPLIED_HASH in (meta.get("annotations") or {})
    main = Owner(applied_by, "Apply") if is_ours else Owner("kubectl", "Update")
    owners = {main: frozenset(paths(kind, rest))}
    is_planned = kind.is_custom and not kind.resource.api_version.startswith("gateway.")
    if obj.get("status"):
        writer = Owner(applied_by, "Apply", "status") if is_planned else Owner("others", "Update", "status")
        owners[writer] = frozenset(paths(kind, {"status": obj["status"]}))
    return owners
