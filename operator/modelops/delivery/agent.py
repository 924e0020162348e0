"""The node agent: keep on this node what it should have, and say how far that is."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter, Gauge

from modelops.api import names
from modelops.clients import errors
from modelops.clients.kinds import resource_of
from modelops.clients.kube import Kube
from modelops.delivery import report
from modelops.delivery.cache import Record, Store
from modelops.delivery.fetch import disk_full, fetch
from modelops.delivery.report import Artifact
from modelops.delivery.sources import open_source
from modelops.delivery.sources.base import Credential, Listing, Source, Unavailable, redacted
from modelops.delivery.wants import Pod, Version, pod_of, version_of, wants
from modelops.delivery.watch import follow
from modelops.plan import Manifest, Reason, Ref

log = logging.getLogger(__name__)

FETCHED_BYTES = Counter("modelops_delivery_fetched_bytes_total", "Bytes of artifacts written to the store.")
FETCHES = Counter("modelops_delivery_fetches_total", "Artifacts brought, or not, by result.", ("result",))
ARTIFACTS = Gauge("modelops_delivery_artifacts", "Artifacts on this node.", ("phase",))
FREE_BYTES = Gauge("modelops_delivery_disk_free_bytes", "Free space on the disk of the store.")
for _result in ("Ready", "DigestMismatch"):  # else the first one would be no increase
    FETCHES.labels(_result)

FETCHES_AT_ONCE = 2
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 5.0, 120.0
LOOK_SECONDS = 30.0
TICK_SECONDS = 0.5


@dataclass(slots=True)
class _Trouble:
    """How often an artifact failed in a row, and when it is tried again (monotonic seconds)."""

    count: int = 0
    retry_at: float = 0.0


@dataclass(slots=True)
class _Seen:
    """What the API server says, by key."""

    versions: dict[tuple[str, str], Version] = field(default_factory=dict)
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)
    lists: set[tuple[str, str | None]] = field(default_factory=set)
    """Kinds and namespaces (None: all) of which a whole list was seen."""


class Agent:
    """Everything that one node's agent knows and does."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        node: str,
        *,
        allowed_hosts: frozenset[str] = frozenset(),
        namespaces: tuple[str, ...] = (),
        keep_free_percent: int = 5,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube, self._store, self._node = kube, store, node
        self._allowed_hosts = allowed_hosts
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._keep_free_percent = keep_free_percent
        self._clock, self._now = clock, now
        self._seen = _Seen()
        self._artifacts: dict[str, Artifact] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trouble: dict[str, _Trouble] = {}
        self._slots = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Tell whether versions and pods were listed once."""
        return len(self._seen.lists) == 2 * len(self._namespaces)

    async def run(self) -> None:
        """Work until cancelled; what is on its way then stays and is taken up by the next run."""
        await asyncio.to_thread(self._store.prepare)
        for record in await asyncio.to_thread(self._store.records):
            self._artifacts[record.digest] = _ready(record)
        log.info("node=%s artifacts=%d start", self._node, len(self._artifacts))
        try:
            async with asyncio.TaskGroup() as group:
                for namespace in self._namespaces:
                    group.create_task(self._follow_versions(namespace))
                    group.create_task(self._follow_pods(namespace))
                group.create_task(self._keep())
                group.create_task(self._tell())
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # --- what is wanted ------------------------------------------------------------------------

    async def _follow_versions(self, namespace: str | None) -> None:
        def put(obj: Manifest) -> None:
            version = version_of(obj)
            if version is None:
                self._seen.versions.pop(_key(obj), None)
            else:
                self._seen.versions[_key(obj)] = version

        await self._follow("ModelVersion", names.API_VERSION, namespace, "", self._seen.versions, put)

    async def _follow_pods(self, namespace: str | None) -> None:
        def put(obj: Manifest) -> None:
            pod = pod_of(obj)
            if pod is None or pod.node != self._node:
                self._seen.pods.pop(_key(obj), None)
            else:
                self._seen.pods[_key(obj)] = pod

        labels = f"{names.VERSION_LABEL},{names.DIGEST}"
        await self._follow("Pod", "v1", namespace, labels, self._seen.pods, put)

    async def _follow(
        self,
        kind: str,
        api_version: str,
        namespace: str | None,
        labels: str,
        rows: dict[tuple[str, str], Any],
        put: Callable[[Manifest], None],
    ) -> None:
        def replaced(items: list[Manifest]) -> None:
            for key in [key for key in rows if namespace in (None, key[0])]:
                del rows[key]
            for item in items:
                put(item)
            self._seen.lists.add((kind, namespace))
            self._changed.set()

        def changed(event: str, obj: Manifest) -> None:
            # One that goes is one that needs nothing.
            put({**obj, "status": {"phase": "Succeeded"}} if event == "DELETED" else obj)
            self._changed.set()

        await follow(
            self._kube,
            resource_of(api_version, kind),
            namespace,
            labels=labels,
            replace=replaced,
            change=changed,
        )

    # --- keeping -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Compare what is wanted with what is there, at every change and every half minute."""
        is_first = True
        while True:
            if self.is_ready:
                wanted = wants(self._node, self._seen.versions.values(), self._seen.pods.values())
                if is_first:
                    await self._recover(wanted)
                    is_first = False
                await self._turn(wanted)
            pending = [trouble.retry_at - self._clock() for trouble in self._trouble.values()]
            try:
                async with asyncio.timeout(max(0.1, min([LOOK_SECONDS, *pending]))):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    async def _recover(self, wanted: dict[str, tuple[Version, ...]]) -> None:
        """Remove what an earlier run began or left and nobody wants."""
        for digest in await asyncio.to_thread(self._store.discard_others, wanted):
            log.info("%s node=%s staging removed: nobody wants it", digest, self._node)
        for digest in await asyncio.to_thread(self._store.unknown):
            if digest not in wanted:
                await asyncio.to_thread(self._store.evict, digest)
                log.info("%s node=%s removed: has no record, and nobody wants it", digest, self._node)

    async def _turn(self, wanted: dict[str, tuple[Version, ...]]) -> None:
        for digest in [digest for digest in self._tasks if digest not in wanted]:
            task = self._tasks.pop(digest)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            log.info("%s node=%s fetch stopped: nobody wants it any more", digest, self._node)
        for digest, artifact in list(self._artifacts.items()):
            is_there = artifact.phase == "Ready" and self._store.files(digest).is_dir()
            if not is_there and (digest not in wanted or artifact.phase == "Ready"):
                del self._artifacts[digest]
                self._trouble.pop(digest, None)
        for digest, versions in wanted.items():
            self._begin(digest, versions)

    def _begin(self, digest: str, versions: tuple[Version, ...]) -> None:
        artifact = self._artifacts.get(digest)
        trouble = self._trouble.get(digest)
        if digest in self._tasks or (artifact is not None and artifact.phase == "Ready"):
            return
        if trouble is not None and self._clock() < trouble.retry_at:
            return
        if artifact is None:
            self._artifacts[digest] = Artifact(digest, versions[0].namespace, versions[0].name, "Fetching")
        task = asyncio.create_task(self._bring(digest, versions), name=digest)
        self._tasks[digest] = task
        task.add_done_callback(lambda done: self._finished(digest, done))

    def _finished(self, digest: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(digest) is done:
            del self._tasks[digest]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("%s node=%s broke: %s", digest, self._node, type(error).__name__, exc_info=error)
        self._changed.set()

    async def _bring(self, digest: str, versions: tuple[Version, ...]) -> None:
        """Try the versions of *digest* one after the other until one has brought the bytes."""
        async with self._slots:
            outcome: Record | Reason | None = None
            for version in versions:
                outcome = await self._attempt(version)
                if isinstance(outcome, Record):
                    self._succeed(version, outcome)
                    return
            assert isinstance(outcome, Reason)
            self._fail(digest, versions[-1], outcome)

    def _succeed(self, version: Version, record: Record) -> None:
        self._artifacts[record.digest] = _ready(record)
        self._trouble.pop(record.digest, None)
        FETCHES.labels("Ready").inc()
        log.info(
            "%s node=%s ready digest=%s files=%d bytes=%d",
            version,
            self._node,
            record.digest,
            record.files,
            record.bytes,
        )

    def _fail(self, digest: str, version: Version, reason: Reason) -> None:
        trouble = self._trouble.setdefault(digest, _Trouble())
        pause = min(FIRST_RETRY_SECONDS * 2**trouble.count, LONGEST_RETRY_SECONDS)
        trouble.count += 1
        trouble.retry_at = self._clock() + pause
        artifact = self._artifacts[digest]
        self._artifacts[digest] = replace(artifact, phase="Failed", message=reason.message)
        FETCHES.labels(reason.code).inc()
        log.warning(
            "%s node=%s failed code=%s retry=%ds: %s", version, self._node, reason.code, pause, reason.message
        )

    async def _attempt(self, version: Version) -> Record | Reason:
        try:
            if there := await asyncio.to_thread(self._there, version):
                return there
            credential = await self._credential(version)
            if isinstance(credential, Reason):
                return credential
            source = open_source(
                version.source, credential, revision=version.revision, allowed_hosts=self._allowed_hosts
            )
            if isinstance(source, Reason):
                return Reason(source.code, f"{version}: {source.message}")
            try:
                return _without(await self._fetch(version, source), credential.token)
            finally:
                await source.close()
        except Unavailable as error:
            return Reason("SourceUnavailable", f"{error}; it is tried again")
        except errors.ApiError as error:
            return Reason(
                "ApiUnavailable", f"{version}: needs the API server, found {error}; it is tried again"
            )
        except OSError as error:
            return Reason(
                "StoreBroken",
                f"{version}: needs the store on node {self._node}, found {error.strerror or error}; "
                "look at the node's disk",
            )

    def _there(self, version: Version) -> Record | Reason | None:
        """Return what a run before left complete, hashed again when its record is gone."""
        record = self._store.record(version.digest)
        if record is not None or not self._store.files(version.digest).is_dir():
            return record
        adopted = self._store.adopt(version.digest, version.namespace, version.name, self._instant())
        return adopted if isinstance(adopted, Record) else None

    async def _fetch(self, version: Version, source: Source) -> Record | Reason:
        listing = await source.resolve()
        if isinstance(listing, Reason):
            return Reason(listing.code, f"{version}: {listing.message}")
        if reason := await self._room(version, listing):
            return reason
        artifact = Artifact(
            version.digest, version.namespace, version.name, "Fetching", total_bytes=listing.bytes
        )
        self._artifacts[version.digest] = artifact
        log.info("%s node=%s fetches %s bytes=%d", version, self._node, listing.uri, listing.bytes)
        counted: list[int] = []

        def told(count: int) -> None:
            FETCHED_BYTES.inc(max(0, count - (counted[-1] if counted else count)))
            counted[:] = [count]
            self._artifacts[version.digest] = replace(artifact, bytes=count)

        staging = await asyncio.to_thread(self._store.staging, version.digest)
        hashes = await fetch(source, listing, staging, told=told)
        if isinstance(hashes, Reason):
            return Reason(hashes.code, f"{version}: {hashes.message}")
        return await asyncio.to_thread(
            self._store.publish, version.digest, hashes, version.namespace, version.name, self._instant()
        )

    async def _room(self, version: Version, listing: Listing) -> Reason | None:
        """Make room for what is still missing, and some to spare, or return why there is none."""

        def make() -> Reason | None:
            staged = self._store.staged_bytes(version.digest)

            def missing() -> int:
                disk = self._store.disk()
                spare = disk.total_bytes * self._keep_free_percent // 100
                return listing.bytes - staged + spare - disk.free_bytes

            wanted = {*wants(self._node, self._seen.versions.values(), self._seen.pods.values())}
            for digest in self._store.make_room(wanted | set(self._tasks), missing):
                self._artifacts.pop(digest, None)
                log.info("%s node=%s evicted: room for %s", digest, self._node, version)
            if missing() <= 0:
                return None
            return disk_full(str(version), listing.bytes, staged, self._store.root)

        return await asyncio.to_thread(make)

    async def _credential(self, version: Version) -> Credential | Reason:
        """Return the token from the version's Secret, if the Secret is marked as one for us."""
        if version.secret is None:
            return Credential()
        place = f"{version.namespace}/{version.secret}"
        wanted = f'{version}: needs Secret {place} with key token and label {names.DELIVERY_SECRET}: "true"'
        try:
            secret = await self._kube.get(Ref("v1", "Secret", version.namespace, version.secret))
        except errors.NotFound:
            return Reason("SecretMissing", f"{wanted}, found none; create it")
        if (secret["metadata"].get("labels") or {}).get(names.DELIVERY_SECRET) != "true":
            return Reason("SecretNotLabelled", f"{wanted}, found it without the label; label it")
        try:
            token = (
                base64.b64decode((secret.get("data") or {})["token"], validate=True).decode("ascii").strip()
            )
        except (KeyError, UnicodeDecodeError, binascii.Error):
            token = ""
        if not token or not token.isprintable():
            return Reason("SecretWithoutToken", f"{wanted}, found no usable token in it; put the token there")
        return Credential(token, place)

    # --- telling -------------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Report at each change worth it; keep trying while the API server is away."""
        before: dict[str, Artifact] | None = None
        sent_at = 0.0
        pause = TICK_SECONDS
        while True:
            now = dict(self._artifacts)
            if self.is_ready and report.is_due(before, now, seconds=self._clock() - sent_at):
                try:
                    await self._send(now)
                    before, sent_at, pause = now, self._clock(), TICK_SECONDS
                except errors.ApiError as error:
                    log.warning("node=%s report failed: %s", self._node, error)
                    pause = min(2 * pause, LOOK_SECONDS)
            await asyncio.sleep(pause)

    async def _send(self, artifacts: dict[str, Artifact]) -> None:
        disk = await asyncio.to_thread(self._store.disk)
        FREE_BYTES.set(disk.free_bytes)
        for phase in ("Fetching", "Ready", "Failed"):
            ARTIFACTS.labels(phase).set(sum(artifact.phase == phase for artifact in artifacts.values()))
        manifest = report.manifest(self._node, artifacts.values(), disk, self._instant())
        try:
            await self._kube.apply_status(manifest, field_manager=names.DELIVERY_FIELD_MANAGER)
        except errors.NotFound:
            bare = {key: manifest[key] for key in ("apiVersion", "kind", "metadata")}
            await self._kube.apply(bare, field_manager=names.DELIVERY_FIELD_MANAGER)
            await self._kube.apply_status(manifest, field_manager=names.DELIVERY_FIELD_MANAGER)

    def _instant(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ready(record: Record) -> Artifact:
    return Artifact(
        record.digest,
        record.namespace,
        record.version,
        "Ready",
        record.bytes,
        record.bytes,
        verified_at=record.verified_at,
    )


def _without(outcome: Record | Reason, token: str) -> Record | Reason:
    if isinstance(outcome, Reason):
        return Reason(outcome.code, redacted(outcome.message, token))
    return outcome


def _key(obj: Manifest) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
