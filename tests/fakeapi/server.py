"""The server: takes requests, lets faults happen to them, and answers as the real one does."""

import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from tests.fakeapi import verbs
from tests.fakeapi.answers import Refusal
from tests.fakeapi.faults import Drop, Faults
from tests.fakeapi.kinds import Served
from tests.fakeapi.lists import Lists, page_of
from tests.fakeapi.requests import Asked, Log, Where, verb_of, where
from tests.fakeapi.selectors import selector
from tests.fakeapi.state import Obj, State
from tests.fakeapi.verbs import Write
from tests.fakeapi.watches import Cut, Stream, Watches


class Server:
    """One API server over plain HTTP.  Whoever asks is named by its bearer token, else by its user agent."""

    def __init__(
        self, state: State, kinds: dict[tuple[str, str], Served], monotonic: Callable[[], float]
    ) -> None:
        self.state = state
        self.kinds = kinds
        self.monotonic = monotonic
        self.lists = Lists(state)
        self.watches = Watches(state, monotonic)
        self.faults = Faults()
        self.log = Log()
        self.outage: Refusal | None = None
        """What everybody is answered while the server is away."""
        self.is_hanging = False
        """True: everybody waits for ever."""
        self.on_end: Callable[[Asked], None] = lambda asked: None
        """Called with each request once it was answered, or not."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        asked = Asked(self.monotonic(), _identity(request), request.method.lower(), path=request.path)
        asked.query = dict(request.query)
        named = where(self.kinds, request.path)
        if named is not None:
            asked.verb = verb_of(request, named)
            asked.kind, asked.namespace = named.kind.resource.kind, named.namespace
            asked.name, asked.subresource = named.name, named.subresource
            asked.page = page_of(asked.query)
        try:
            await self._read(request, asked)
            self.log.add(asked)
            return await self._answered(request, asked, named)
        except (Drop, Cut):
            return _cut(request)
        except Refusal as refusal:
            asked.code = refusal.code
            return web.json_response(refusal.body(), status=refusal.code, headers=refusal.headers)
        finally:
            asked.ended = self.monotonic()
            self.on_end(asked)
            if not self.log.keeps:
                asked.body = None

    async def _read(self, request: web.Request, asked: Asked) -> None:
        text = await request.text()
        asked.body = json.loads(text) if text else None
        body = asked.body if isinstance(asked.body, dict) else {}
        meta = body.get("metadata") or {}
        asked.name = asked.name or (meta.get("name", "") if asked.verb == "create" else "")
        given = body.get("preconditions") or meta
        asked.version = str(given.get("resourceVersion") or "")

    async def _answered(self, request: web.Request, asked: Asked, named: Where | None) -> web.StreamResponse:
        if self.is_hanging:
            await asyncio.Event().wait()
        if self.outage is not None:
            raise self.outage
        if named is None:
            return self._about_kinds(request, asked)
        if asked.verb == "watch":
            return await self._watch(request, asked, named)
        for fault in self.faults.of(asked, is_after=False):
            await fault.happen(asked)
        version = self.state.version
        body, code = self._do(asked, named, request)
        asked.has_landed = self.state.version != version
        for fault in self.faults.of(asked, is_after=True):
            await fault.happen(asked)
        asked.code = code
        return web.Response(body=body, status=code, content_type="application/json")

    # --- one object, or a list -----------------------------------------------------------------------

    def _do(self, asked: Asked, named: Where, request: web.Request) -> tuple[bytes, int]:
        """Carry out a request and return the body and the code of its answer."""
        if asked.verb == "list":
            return self._list(asked, named, request), 200
        write = Write(
            self.state,
            named.kind,
            named.namespace,
            named.name,
            manager=asked.query.get("fieldManager") or asked.identity,
            subresource=named.subresource,
            is_dry=asked.query.get("dryRun") == "All",
        )
        if asked.verb == "get":
            return write.found().text, 200
        is_new = write.before is None and asked.verb in ("create", "apply")
        return _text(self._write(asked, write, request)), 201 if is_new else 200

    def _write(self, asked: Asked, write: Write, request: web.Request) -> Obj:
        body = asked.body if asked.body is not None else {}
        match asked.verb:
            case "create":
                return verbs.create(write, body)
            case "update":
                return verbs.replace(write, body)
            case "apply":
                return verbs.apply(write, body, force=asked.query.get("force") == "true")
            case "patch":
                is_merge = "merge-patch" in request.headers.get("Content-Type", "")
                return verbs.patch(write, body, is_merge=is_merge)
            case "delete":
                return verbs.delete(write, body)
            case _:
                raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")

    def _list(self, asked: Asked, named: Where, request: web.Request) -> bytes:
        return self.lists.page(
            named.kind,
            selector(
                asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""), named.namespace
            ),
            limit=int(asked.query.get("limit", "0")),
            token=asked.query.get("continue", ""),
            is_metadata="PartialObjectMetadataList" in request.headers.get("Accept", ""),
        )

    # --- watches -------------------------------------------------------------------------------------

    async def _watch(self, request: web.Request, asked: Asked, named: Where) -> web.StreamResponse:
        lines: list[bytes] = []
        stream = Stream(named.kind, asked.identity)
        for fault in self.faults.of(asked, is_after=False):
            await fault.happen(asked)
            stream.is_stalled |= fault.is_stall
            lines += [fault.line] if fault.line is not None else []
        at = self.watches.start(named.kind, asked.query.get("resourceVersion", ""))
        matches = selector(
            asked.query.get("labelSelector", ""), asked.query.get("fieldSelector", ""), named.namespace
        )
        asked.code = 200
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if not asked.query.get("resourceVersion", "").strip("0"):
            lines += [line for line in self._now(named.kind, matches)]
        for line in lines:
            await response.write(line)
            if not line.endswith(b"\n"):
                raise Cut
        seconds = float(asked.query.get("timeoutSeconds") or math.inf)
        bookmarks = asked.query.get("allowWatchBookmarks") == "true"
        with suppress(ConnectionError):  # the client went
            await self.watches.run(stream, at, matches, response, seconds=seconds, bookmarks=bookmarks)
        return response

    def _now(self, kind: Served, matches: Callable[[Any], bool]) -> list[bytes]:
        """Return an ADDED line for all there is: a watch from no version begins so."""
        found = [stored for _, stored in sorted(self.state.of(kind).items()) if matches(stored)]
        return [b'{"type":"ADDED","object":%s}\n' % stored.text for stored in found]

    # --- discovery -----------------------------------------------------------------------------------

    def _about_kinds(self, request: web.Request, asked: Asked) -> web.Response:
        path = request.path.strip("/")
        versions = sorted({kind.resource.api_version for kind in self.kinds.values()})
        asked.code = 200
        if path in ("version", "healthz", "readyz", "livez"):
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.0-fake"})
        if path == "api":
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if path == "apis":
            return web.json_response({"kind": "APIGroupList", "groups": _groups(versions)})
        head = path.removeprefix("apis/") if path.startswith("apis/") else path.removeprefix("api/")
        found = [kind for kind in self.kinds.values() if kind.resource.api_version == head]
        if not found or path not in (f"apis/{head}", f"api/{head}"):
            asked.code = 404
            return web.Response(status=404, text="404 page not found\n")
        listed = [entry for kind in found for entry in _resources(kind)]
        return web.json_response({"kind": "APIResourceList", "groupVersion": head, "resources": listed})


def _groups(versions: list[str]) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, str]]] = {}
    for api_version in versions:
        group, _, version = api_version.rpartition("/")
        if group:
            groups.setdefault(group, []).append({"groupVersion": api_version, "version": version})
    return [{"name": name, "versions": v, "preferredVersion": v[0]} for name, v in groups.items()]


def _resources(kind: Served) -> list[dict[str, Any]]:
    resource = kind.resource
    verbs_ = ["create", "delete", "get", "list", "patch", "update", "watch"]
    head = {"kind": resource.kind, "namespaced": resource.namespaced, "singularName": resource.kind.lower()}
    out = [{"name": resource.plural, "verbs": verbs_, "shortNames": [], "categories": [], **head}]
    if kind.has_status:
        out.append({"name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"], **head})
    return out


def _identity(request: web.Request) -> str:
    token = request.headers.get("Authorization", "").partition(" ")[2]
    return token or request.headers.get("User-Agent", "").partition("/")[0]


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _text(obj: Obj) -> bytes:
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()
