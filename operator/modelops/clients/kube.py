"""Speak with the API server: the only code that writes to it.

Bodies are plain dictionaries; the typed models of the client library are never imported, since they
cost 20 to 40 MB.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from prometheus_client import Counter

from modelops.api.names import APPLIED_HASH, FIELD_MANAGER
from modelops.clients import errors
from modelops.clients.kinds import Resource, resource_of
from modelops.clients.rate import TokenBucket
from modelops.plan import Manifest, Ref, ref

REQUESTS = Counter("modelops_api_requests_total", "Requests to the API server.", ("verb", "kind", "code"))

PAGE = 100
"""Objects in one answer to a list.

All kinds are listed at once: of 500 each, 15 pages of dictionaries left 16 MB of holes between the rows.
"""
_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_ANSWER = aiohttp.ClientTimeout(total=15, sock_connect=5)
# The server sends a bookmark each minute, so 75 silent seconds are a dead connection.
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=75)
_READ_BUFFER_BYTES = 2**18
_WRITES = frozenset({"create", "apply", "patch", "update", "delete"})
_METHODS = {"create": "POST", "apply": "PATCH", "patch": "PATCH", "update": "PUT", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``resource_version`` is that of the whole list."""

    items: tuple[Manifest, ...]
    resource_version: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Manifest


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = _JSON
    accept: str = _JSON
    is_free: bool = False
    """True for the Lease only: neither rate, nor semaphore, nor leadership."""
    is_discovery: bool = False
    """True: ask which kinds the group and version have, not for objects."""

    @property
    def what(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {self.resource.kind} {place}".rstrip()

    @property
    def path(self) -> str:
        if self.is_discovery:
            return self.resource.root
        parts = [self.resource.root]
        if self.namespace and self.resource.namespaced:
            parts += ["namespaces", quote(self.namespace, safe="")]
        parts.append(self.resource.plural)
        if self.name:
            parts.append(quote(self.name, safe=""))
        if self.subresource:
            parts.append(self.subresource)
        return "/".join(parts) + (f"?{urlencode(self.query)}" if self.query else "")


class Kube:
    """A connection to one API server.

    ``may_write`` is asked just before every request that writes, but those of the Lease: a replica
    that froze between two writes must not go on with the second.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        may_write: Callable[[], bool] = lambda: True,
        bucket: TokenBucket | None = None,
        in_flight: int = 12,
    ) -> None:
        self._api = ApiClient(configuration)
        self.configuration = configuration
        self.may_write = may_write
        self._bucket = bucket
        self._slots = asyncio.Semaphore(in_flight)

    async def close(self) -> None:
        """Close every connection."""
        await self._api.close()  # type: ignore[no-untyped-call]

    # --- reading -------------------------------------------------------------------------------

    async def get(self, wanted: Ref) -> Manifest:
        """Return one object.

        Raises:
            NotFound: it, or its kind, does not exist.
        """
        return await self._send(_request("get", wanted))

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """List page by page; all namespaces when *namespace* is None.

        With *metadata_only* the items hold nothing but metadata.

        Raises:
            Gone: the list expired on the way; what came so far is not complete.
            NotFound: the kind does not exist.
        """
        query = {"limit": str(PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            accept = _METADATA if metadata_only else _JSON
            answer = await self._send(_Request("list", resource, namespace, query=query, accept=accept))
            meta = answer.get("metadata") or {}
            token = meta.get("continue")
            items = tuple(answer.get("items") or ())
            for item in items:  # lists of built-in kinds leave both out
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            version = str(meta.get("resourceVersion", ""))
            del answer, meta  # else each list would keep its last page while it waits for the next one
            yield Page(items, version, not token)
            del items
            if not token:
                return
            query = {**query, "continue": token}

    async def watch(
        self,
        resource: Resource,
        resource_version: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        seconds: int = 300,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Stream changes after *resource_version*; ends when the server or the network ends it.

        *opened* is called once the server accepted the watch.

        Raises:
            Gone: the version is too old, or the server reported any error: list again.
            ApiError: the watch was not accepted.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
            **({"labelSelector": labels} if labels else {}),
        }
        request = _Request("watch", resource, namespace, query=query)
        async with self._open(request, _STREAM) as answer:
            opened()
            async for line in _lines(request, answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    told = " ".join(str(event["object"].get("message") or event["object"]).split())
                    raise errors.Gone(f"{request.what}: {told}")
                yield WatchEvent(event["type"], event["object"])

    async def serves(self, resource: Resource) -> bool:
        """Return whether the server knows the kind in this version."""
        try:
            answer = await self._send(_Request("get", resource, is_discovery=True))
        except errors.NotFound:
            return False
        return any(item.get("kind") == resource.kind for item in answer.get("resources") or ())

    # --- writing -------------------------------------------------------------------------------

    async def apply(
        self, manifest: Manifest, *, force: bool = True, field_manager: str = FIELD_MANAGER
    ) -> Manifest:
        """Apply on the server and return the object as stored.

        A ``uid`` or ``resourceVersion`` in the metadata is a precondition.  Without it an absent
        object is created, so own kinds are made by ``create``.

        Raises:
            Conflict: a precondition does not hold, or without *force* another manager owns a field.
        """
        return await self._apply(manifest, "", force, field_manager)

    async def apply_status(
        self, manifest: Manifest, *, force: bool = True, field_manager: str = FIELD_MANAGER
    ) -> Manifest:
        """Apply the ``status`` of *manifest*; fields of the last time that are missing now are removed.

        The precondition is ``metadata.resourceVersion``; a wrong uid is accepted by the server.
        """
        return await self._apply(manifest, "status", force, field_manager)

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create and return the object as stored; with *dry_run* it is judged, not stored.

        Raises:
            Conflict: one of this name exists.
        """
        query = {"dryRun": "All"} if dry_run else {}
        return await self._send(_request("create", ref(manifest), body=manifest, query=query))

    async def patch(
        self,
        wanted: Ref,
        body: Any,
        content_type: str,
        subresource: str = "",
        *,
        field_manager: str = FIELD_MANAGER,
    ) -> Manifest:
        """Patch with the given content type: merge patch, JSON patch."""
        query = {"fieldManager": field_manager}
        request = _request(
            "patch", wanted, body=body, content_type=content_type, subresource=subresource, query=query
        )
        return await self._send(request)

    async def change(self, wanted: Ref, operations: Iterable[Manifest]) -> Manifest:
        """Carry out a JSON patch on the version that *wanted* names, and on no other.

        Another object of that name has another version too, so its uid need not be compared.

        Raises:
            Conflict: the object is newer, or another one.
            Invalid: an operation does not apply.
        """
        # Replaced, not tested: a test that fails is 422, another version in the result is 409.
        held = {"op": "replace", "path": "/metadata/resourceVersion", "value": wanted.resource_version}
        try:
            return await self.patch(wanted, [held, *operations], _JSON_PATCH)
        except errors.Invalid as error:
            # What does not apply to another version is no fault of the patch.
            found = (await self.get(wanted))["metadata"]["resourceVersion"]
            if found == wanted.resource_version:
                raise
            raise errors.Conflict(f"{wanted}: was {wanted.resource_version}, is {found}") from error

    async def delete(self, wanted: Ref, propagation: str = "Background") -> None:
        """Delete under the preconditions that *wanted* carries; one that is gone already is success.

        Raises:
            Conflict: another object has the name now, or it changed.
        """
        given = {"uid": wanted.uid, "resourceVersion": wanted.resource_version}
        preconditions = {key: value for key, value in given.items() if value}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            **({"preconditions": preconditions} if preconditions else {}),
        }
        try:
            await self._send(_request("delete", wanted, body=body))
        except errors.NotFound:
            return
        except errors.Ambiguous:
            if not await self._is_going(wanted):
                raise

    # --- the Lease: nothing may hold it up -----------------------------------------------------

    async def get_lease(self, wanted: Ref) -> Manifest:
        """Return the Lease."""
        return await self._send(_request("get", wanted, is_free=True))

    async def create_lease(self, manifest: Manifest) -> Manifest:
        """Create the Lease; Conflict when somebody else did."""
        return await self._send(_request("create", ref(manifest), body=manifest, is_free=True))

    async def replace_lease(self, manifest: Manifest) -> Manifest:
        """Replace the Lease; Conflict when its resourceVersion is not the one in *manifest*."""
        return await self._send(_request("update", ref(manifest), body=manifest, is_free=True))

    # --- underneath ----------------------------------------------------------------------------

    async def _apply(self, manifest: Manifest, subresource: str, force: bool, manager: str) -> Manifest:
        wanted = ref(manifest)
        query = {"fieldManager": manager, "force": str(force).lower()}
        request = _request(
            "apply", wanted, body=manifest, content_type=_APPLY, subresource=subresource, query=query
        )
        try:
            return await self._send(request)
        except errors.Ambiguous:
            found = await self._read_back(wanted)
            if found is None or not _is_done(manifest, found, is_status=bool(subresource)):
                raise
            return found

    async def _read_back(self, wanted: Ref) -> Manifest | None:
        """Return the object as it is after a lost answer, or None."""
        try:
            return await self.get(wanted)
        except errors.NotFound:
            return None

    async def _is_going(self, wanted: Ref) -> bool:
        found = await self._read_back(wanted)
        if found is None:
            return True
        meta = found["metadata"]
        return bool(meta.get("deletionTimestamp")) or (bool(wanted.uid) and meta["uid"] != wanted.uid)

    async def _send(self, request: _Request) -> Manifest:
        """Send one request in its turn and return the decoded answer."""
        if request.is_free:
            return await self._exchange(request)
        now = asyncio.get_running_loop().time
        if self._bucket and request.verb in _WRITES and (pause := self._bucket.reserve(now())):
            await asyncio.sleep(pause)
        async with self._slots:
            return await self._exchange(request)

    async def _exchange(self, request: _Request) -> Manifest:
        async with self._open(request, _ANSWER) as answer:
            decoded: Manifest = json.loads(await answer.read() or b"{}")
            return decoded

    @asynccontextmanager
    async def _open(
        self, request: _Request, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send *request*, translate every way it can fail, and count it."""
        code = "lost"
        was_sent = False
        try:
            headers = await self._headers(request)
            if request.verb in _WRITES and not request.is_free and not self.may_write():
                raise errors.NotLeading(f"{request.what}: this replica does not lead")
            was_sent = True
            answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                _METHODS.get(request.verb, "GET"),
                self.configuration.host + request.path,
                headers=headers,
                body=request.body,
                _request_timeout=timeout,
            )
            response: aiohttp.ClientResponse = answer.response
            async with response:
                code = str(response.status)
                if response.status >= 400:
                    raise await _failure(request, response)
                yield response
        except errors.NotLeading:
            code = "not-leading"
            raise
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, kube_config.ConfigException) as error:
            raise _lost(request, error, was_sent=was_sent) from error
        except asyncio.CancelledError as error:
            # kopf cancels tasks that aiohttp made for us (name resolution): nobody cancelled this one.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _lost(request, error, was_sent=was_sent) from error
        finally:
            REQUESTS.labels(request.verb, request.resource.kind, code).inc()

    async def _headers(self, request: _Request) -> dict[str, str]:
        """Return the headers; the token is read again when it is a minute old."""
        headers = {"Accept": request.accept, "Content-Type": request.content_type, "User-Agent": "modelops"}
        if token := await self.configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        return headers


async def connect(
    kubeconfig: str | None = None,
    *,
    context: str | None = None,
    workers: int = 8,
    may_write: Callable[[], bool] = lambda: True,
    bucket: TokenBucket | None = None,
    in_flight: int = 12,
) -> Kube:
    """Return a connection: to *kubeconfig* when given, else in-cluster, else the user's default file.

    Raises:
        Unavailable: there are no credentials.
    """
    configuration = Configuration()
    try:
        if kubeconfig or context:
            await _from_file(kubeconfig, context, configuration)
        else:
            try:
                kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            except kube_config.ConfigException:
                await _from_file(None, None, configuration)
    except (kube_config.ConfigException, OSError) as error:
        told = " ".join(str(error).split())
        raise errors.Unavailable(
            f"connecting needs a service account or a kubeconfig, found {told}; set KUBECONFIG"
        ) from error
    # The default reads the proxy variables again on every request: 0.64 instead of 0.18 ms of CPU each.
    configuration.client_session_kwargs = {"trust_env": False, "read_bufsize": _READ_BUFFER_BYTES}
    configuration.connection_pool_maxsize = workers + in_flight + 32
    return Kube(configuration, may_write=may_write, bucket=bucket, in_flight=in_flight)


async def _from_file(path: str | None, context: str | None, configuration: Configuration) -> None:
    await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=path, context=context, client_configuration=configuration, persist_config=False
    )


def _request(verb: str, wanted: Ref, **more: Any) -> _Request:
    """Return a request for one object; *more* are fields of the request."""
    resource = resource_of(wanted.api_version, wanted.kind)
    # A POST goes to the collection.
    name = None if verb == "create" else wanted.name
    return _Request(verb, resource, wanted.namespace, name, **more)


async def _lines(request: _Request, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a stream, of any length; a lost connection ends it like an ended one."""
    rest = bytearray()
    try:
        async for chunk in answer.content.iter_any():
            rest += chunk
            *whole, rest = rest.split(b"\n")
            for line in whole:
                if line:
                    yield bytes(line)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return


async def _failure(request: _Request, answer: aiohttp.ClientResponse) -> errors.ApiError:
    """Return the error of an answer that is not 2xx."""
    text = await answer.text(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = {"message": text[:500]}
    if not isinstance(status, Mapping):
        status = {}
    pause = errors.retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
    if pause is None and (seconds := (status.get("details") or {}).get("retryAfterSeconds")):
        pause = errors.retry_after(str(seconds), datetime.now(UTC))
    return errors.from_answer(request.what, answer.status, status, pause, writes=request.verb in _WRITES)


def _lost(request: _Request, error: BaseException, *, was_sent: bool) -> errors.ApiError:
    """Return the error of a request without an answer."""
    text = f"{request.what}: {type(error).__name__} {error}".rstrip()
    is_open = was_sent and not isinstance(error, aiohttp.ClientConnectorError)
    if is_open and request.verb in _WRITES:
        return errors.Ambiguous(text)
    return errors.Unavailable(text)


def _is_done(wanted: Manifest, found: Manifest, *, is_status: bool) -> bool:
    """Return whether the lost write is what *found* shows.

    Children carry the hash of what was wanted; a status is compared whole.
    """
    if is_status:
        return bool(wanted.get("status") == found.get("status"))
    mine = (wanted["metadata"].get("annotations") or {}).get(APPLIED_HASH)
    theirs = (found["metadata"].get("annotations") or {}).get(APPLIED_HASH)
    return mine is not None and mine == theirs
