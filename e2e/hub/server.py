"""A model hub that speaks the protocol of the Hugging Face Hub, as far as a client that reads needs it.

Source: huggingface_hub 2.4.0 (hf_api.py, file_download.py, utils/_http.py); its real client is the test.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from e2e.hub.faults import Fault, Faults
from e2e.hub.repository import Entry, Repository, card, load

CHUNK = 256 * 1024
PAGE = 1000
EPOCH = "2026-01-01T00:00:00.000Z"


class Hub:
    """The repositories of one folder behind HTTP."""

    def __init__(
        self,
        data: Path,
        *,
        tokens: frozenset[str] = frozenset(),
        strangers: frozenset[str] = frozenset(),
        private: frozenset[str] = frozenset(),
        gated: frozenset[str] = frozenset(),
        object_base: str = "",
    ) -> None:
        """*strangers* are valid tokens without access; *object_base* is another origin for LFS content."""
        self.data = data
        self.repositories = load(data)
        self.tokens, self.strangers = tokens, strangers
        self.private, self.gated = private, gated
        self.object_base = object_base
        self.faults = Faults()
        self.requests: list[dict[str, Any]] = []
        self._key = secrets.token_bytes(16)

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(middlewares=[self._observe])
        repo = r"{org:[\w.-]+}/{name:[\w.-]+}"
        app.add_routes(
            [
                web.get("/healthz", self._healthy),
                web.get("/hub/requests", self._requests),
                web.post("/hub/refs", self._move),
                web.post("/hub/faults", self._fault),
                web.delete("/hub/faults", self._no_fault),
                web.post("/hub/reload", self._reload),
                web.get("/api/whoami-v2", self._whoami),
                web.get(f"/api/models/{repo}", self._info),
                web.get(f"/api/models/{repo}/revision/{{revision}}", self._info),
                web.get(f"/api/models/{repo}/refs", self._refs),
                web.get(f"/api/models/{repo}/tree/{{revision}}", self._tree),
                web.get(f"/api/models/{repo}/tree/{{revision}}/{{folder:.+}}", self._tree),
                web.get(f"/{repo}/resolve/{{revision}}/{{path:.+}}", self._resolve),
                web.get("/lfs-objects/{sha256:[0-9a-f]{64}}", self._object),
            ]
        )
        return app

    @web.middleware
    async def _observe(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith(("/hub/", "/healthz")):
            self.requests.append(
                {
                    "method": request.method,
                    "path": request.path,
                    "host": request.host,
                    "range": request.headers.get("Range", ""),
                    "ifRange": request.headers.get("If-Range", ""),
                    "authorized": "Authorization" in request.headers,
                }
            )
            del self.requests[:-1000]
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def _move(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        repository = self.repositories[wanted["repo"]]
        commit = repository.commit_of(wanted["to"])
        if commit is None:
            return web.json_response({"error": f"{wanted['to']}: no such revision"}, status=404)
        repository.refs[wanted["ref"]] = commit
        return web.json_response({"ref": wanted["ref"], "commit": commit})

    async def _fault(self, request: web.Request) -> web.Response:
        self.faults.add(await request.json())
        return web.json_response({})

    async def _no_fault(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response({})

    async def _reload(self, _: web.Request) -> web.Response:
        moved = {name: repository.refs for name, repository in self.repositories.items()}
        self.repositories = await asyncio.to_thread(load, self.data)
        for name, repository in self.repositories.items():
            repository.refs = {**repository.refs, **moved.get(name, {})}
        return web.json_response({name: repository.refs for name, repository in self.repositories.items()})

    async def _whoami(self, request: web.Request) -> web.Response:
        if _token(request) in self.tokens | self.strangers:
            return web.json_response({"type": "user", "name": "reader", "orgs": []})
        return _refusal(401, "", "Invalid credentials in Authorization header")

    async def _info(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        repository, commit, entries = found
        return web.json_response(self._model(repository, commit, entries, blobs="blobs" in request.query))

    async def _refs(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        refs = found[0].refs.items()
        return web.json_response(
            {
                "branches": [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": to} for name, to in refs
                ],
                "tags": [],
                "converts": [],
            }
        )

    async def _tree(self, request: web.Request) -> web.Response:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        rows = _rows(found[2], request.match_info.get("folder", ""), recursive=_is_true(request, "recursive"))
        if not rows:
            return _refusal(404, "EntryNotFound", "Entry not found")
        begin = int(request.query.get("cursor", "0"))
        limit = min(int(request.query.get("limit", PAGE)), PAGE)
        headers = {}
        if begin + limit < len(rows):
            following = request.url.update_query(cursor=str(begin + limit))
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(rows[begin : begin + limit], headers=headers)

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, web.Response):
            return found
        _, commit, entries = found
        fault = self.faults.take(request.path)
        if fault.status is not None:
            return _refusal(fault.status, "", "fault")
        if fault.location is not None:
            return web.Response(status=302, headers={"Location": fault.location})
        entry = entries.get(request.match_info["path"])
        headers = {"X-Repo-Commit": commit}
        if entry is None:
            return _refusal(404, "EntryNotFound", "Entry not found", headers)
        if entry.lfs is None:
            return await _send(request, entry, fault, headers)
        headers |= {
            "X-Linked-Etag": f'"{entry.lfs}"',
            "X-Linked-Size": str(entry.size),
            "Location": f"{self._base(request)}/lfs-objects/{entry.lfs}"
            f"?commit={commit}&signature={self._sign(entry.lfs)}",
        }
        return web.Response(status=302, headers=headers, text=f"Found. Redirecting to {headers['Location']}")

    async def _object(self, request: web.Request) -> web.StreamResponse:
        sha256 = request.match_info["sha256"]
        if not hmac.compare_digest(request.query.get("signature", ""), self._sign(sha256)):
            return _refusal(403, "", "Signature does not match")
        fault = self.faults.take(request.path)
        if fault.status is not None:
            return _refusal(fault.status, "", "fault")
        # The client follows a redirect within one origin and wants the commit from its last answer.
        commit = {"X-Repo-Commit": request.query.get("commit", "")}
        for repository in self.repositories.values():
            for entries in repository.commits.values():
                for entry in entries.values():
                    if entry.lfs == sha256:
                        return await _send(request, entry, fault, commit)
        return _refusal(404, "", "Not found")

    def _base(self, request: web.Request) -> str:
        return self.object_base or f"{request.scheme}://{request.host}"

    def _sign(self, sha256: str) -> str:
        return hmac.new(self._key, sha256.encode(), hashlib.sha256).hexdigest()

    def _find(self, request: web.Request) -> tuple[Repository, str, dict[str, Entry]] | web.Response:
        """Return repository, commit and files, or the refusal that the hub gives."""
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        repository = self.repositories.get(name)
        if refusal := self._unauthorized(_token(request), name, is_there=repository is not None):
            return refusal
        assert repository is not None
        commit = repository.commit_of(request.match_info.get("revision", "main"))
        if commit is None:
            return _refusal(404, "RevisionNotFound", "Revision not found")
        return repository, commit, repository.commits[commit]

    def _unauthorized(self, token: str | None, name: str, *, is_there: bool) -> web.Response | None:
        if token is not None and token not in self.tokens | self.strangers:
            return _refusal(401, "", "Invalid credentials in Authorization header")
        if not is_there or (name in self.private and token not in self.tokens):
            return _refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if name in self.gated and token not in self.tokens:
            return _refusal(
                401 if token is None else 403, "GatedRepo", f"Access to model {name} is restricted."
            )
        return None

    def _model(
        self, repository: Repository, commit: str, entries: Mapping[str, Entry], *, blobs: bool
    ) -> dict[str, Any]:
        name = repository.name
        described = card(dict(entries))
        return {
            "_id": commit[:24],
            "id": name,
            "modelId": name,
            "author": name.split("/")[0],
            "sha": commit,
            "lastModified": EPOCH,
            "createdAt": EPOCH,
            "private": name in self.private,
            "gated": "manual" if name in self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [f"license:{described['license']}"] if "license" in described else [],
            "cardData": described,
            "securityRepoStatus": {"scansDone": True, "filesWithIssues": []},
            "siblings": [_sibling(entry, blobs=blobs) for entry in entries.values()],
            "usedStorage": sum(entry.size for entry in entries.values()),
        }


def _token(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else None


def _is_true(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    marks = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return web.json_response({"error": message}, status=status, headers={**marks, **(headers or {})})


def _sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        row |= {"size": entry.size, "blobId": entry.blob}
        if entry.lfs:
            row["lfs"] = {"sha256": entry.lfs, "size": entry.size, "pointerSize": 130}
    return row


def _rows(entries: Mapping[str, Entry], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return files and folders below *folder*, as the tree listing has them."""
    start = f"{folder}/" if folder else ""
    rows: dict[str, dict[str, Any]] = {}
    for path, entry in entries.items():
        if not path.startswith(start):
            continue
        parts = path.removeprefix(start).split("/")
        for depth in range(1, len(parts)):
            parent = start + "/".join(parts[:depth])
            oid = hashlib.sha1(parent.encode(), usedforsecurity=False).hexdigest()
            if recursive or depth == 1:
                rows.setdefault(parent, {"type": "directory", "oid": oid, "size": 0, "path": parent})
        if recursive or len(parts) == 1:
            rows[path] = {"type": "file", "oid": entry.blob, "size": entry.size, "path": path}
            if entry.lfs:
                rows[path]["lfs"] = {"oid": entry.lfs, "size": entry.size, "pointerSize": 130}
    return [rows[path] for path in sorted(rows)]


async def _send(
    request: web.Request, entry: Entry, fault: Fault, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send a file, or the part of it that was asked for."""
    etag = f'"{entry.etag}"'
    size = entry.size + fault.extra_bytes
    begin, end, status = 0, size, 200
    wanted = request.headers.get("Range", "")
    if wanted and request.headers.get("If-Range", etag) == etag:
        span = _span(wanted, size)
        if span is None:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}", **headers})
        (begin, end), status = span, 206
    answer = web.StreamResponse(status=status, headers={**headers, "ETag": etag, "Accept-Ranges": "bytes"})
    answer.content_type = "application/octet-stream"
    answer.content_length = end - begin
    if status == 206:
        answer.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    await answer.prepare(request)
    if request.method == "HEAD":
        return answer
    with suppress(ConnectionError):  # a client that went away is no error of the hub
        await _write(request, answer, _chunks(entry.file, begin, end, fault), fault)
    return answer


async def _write(
    request: web.Request, answer: web.StreamResponse, chunks: AsyncIterator[bytes], fault: Fault
) -> None:
    sent = 0
    async for chunk in chunks:
        if fault.cut_after_bytes is not None and sent + len(chunk) > fault.cut_after_bytes:
            await answer.write(chunk[: fault.cut_after_bytes - sent])
            await asyncio.sleep(0.05)  # let the bytes leave before the connection does
            if request.transport is not None:
                request.transport.abort()
            return
        await answer.write(chunk)
        sent += len(chunk)
    await answer.write_eof()


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the half-open span of one byte range, or None when it cannot be satisfied."""
    unit, _, numbers = wanted.partition("=")
    first, _, last = numbers.partition("-")
    if unit != "bytes" or "," in numbers:
        return 0, size
    if not first:
        return max(0, size - int(last)), size
    begin, end = int(first), min(int(last) + 1, size) if last else size
    return (begin, end) if begin < end else None


async def _chunks(file: Path, begin: int, end: int, fault: Fault) -> AsyncIterator[bytes]:
    step = CHUNK if fault.bytes_per_second is None else max(1, fault.bytes_per_second // 20)
    with file.open("rb") as stream:
        stream.seek(begin)
        for position in range(begin, end, step):
            chunk = stream.read(min(step, end - position)).ljust(min(step, end - position), b"\0")
            if fault.wrong_byte_at is not None and position <= fault.wrong_byte_at < position + len(chunk):
                place = fault.wrong_byte_at - position
                chunk = chunk[:place] + bytes([chunk[place] ^ 0xFF]) + chunk[place + 1 :]
            yield chunk
            if fault.bytes_per_second is not None:
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)


def describe(hub: Hub) -> str:
    """Return one line for each repository and ref."""
    return json.dumps(
        {name: repository.refs for name, repository in hub.repositories.items()}, sort_keys=True
    )
