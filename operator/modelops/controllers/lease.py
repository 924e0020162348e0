"""Elect one leader by a Lease, and know at every instant whether it is still this replica.

The electors of the client library go on leading after a hung connection; see the notes on the loop.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from modelops.clients.errors import ApiError, Conflict, NotFound
from modelops.plan import Manifest, Ref

log = logging.getLogger(__name__)

LEASE_API = "coordination.k8s.io/v1"
_RELEASE_SECONDS = 3.0


class LeaseBox(Protocol):
    """The three requests that an election needs; `clients.kube.Kube` has them."""

    async def get_lease(self, wanted: Ref, /) -> Manifest: ...
    async def create_lease(self, manifest: Manifest, /) -> Manifest: ...
    async def replace_lease(self, manifest: Manifest, /) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """``duration`` is promised to the others, ``renew`` is when a leader gives up, ``retry`` the pause."""

    duration: timedelta = timedelta(seconds=15)
    renew: timedelta = timedelta(seconds=10)
    retry: timedelta = timedelta(seconds=2)


class Elector:
    """One candidate.

    A holder has expired when this candidate has seen the same record unchanged for its duration on
    its own monotonic clock: clocks of different machines are never compared.  Validity counts from
    before the request was sent.
    """

    def __init__(
        self,
        box: LeaseBox,
        lease: Ref,
        identity: str,
        timing: Timing | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        timing = timing or Timing()
        self._box = box
        self._lease = lease
        self.identity = identity
        self._duration = timing.duration.total_seconds()
        self._renew = timing.renew.total_seconds()
        self._retry = timing.retry.total_seconds()
        self._monotonic = monotonic
        self._wall = wall
        self._sleep = sleep
        self._jitter = jitter
        self._valid_until = -math.inf
        self._is_over = False
        self._mine: Manifest | None = None  # the record as our last write left it
        self._seen = ""  # the version of the record that somebody else holds
        self._seen_at = -math.inf
        self._seen_duration = self._duration
        self.term: int | None = None
        """The fencing number, ``leaseTransitions``; None before this candidate ever led."""

    @property
    def leading(self) -> bool:
        """Whether this replica leads now; false past the deadline even if the loop was frozen."""
        return not self._is_over and self._monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Return once this replica leads."""
        while not await self.attempt():
            await self._sleep(self._until_next())
        log.info("%s: leads as %s, term %s", self._lease, self.identity, self.term)

    async def keep(self) -> None:
        """Renew for as long as possible; return once the Lease is lost, for good."""
        while self.leading:
            await self._sleep(min(self._until_next(), max(0.0, self._valid_until - self._monotonic())))
            if self.leading:
                await self.attempt()
        self._is_over = True

    async def attempt(self) -> bool:
        """Try once to take or renew the Lease; any error is "no"."""
        if self._is_over:
            return False
        before = self._monotonic()
        try:
            async with asyncio.timeout(self._patience(before)):
                is_ours = await self._take(before)
        except (ApiError, TimeoutError) as error:
            log.warning("%s: not renewed: %s", self._lease, f"{type(error).__name__} {error}".rstrip())
            return False
        if is_ours:
            self._valid_until = before + self._renew
        return is_ours

    async def release(self) -> None:
        """Stop leading, and let another replica lead at once."""
        was_leading = self.leading
        self._is_over = True
        if not was_leading:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                lease = await self._box.get_lease(self._lease)
                spec = lease["spec"]
                if spec.get("holderIdentity") == self.identity:
                    lease["spec"] = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._box.replace_lease(lease)
        except (ApiError, TimeoutError) as error:
            log.warning("%s: not released, runs out by itself: %s", self._lease, error)

    async def _take(self, before: float) -> bool:
        """Renew what is ours, else read the Lease and write it when it is ours, empty or expired."""
        if await self._renewed():
            return True
        try:
            lease = await self._box.get_lease(self._lease)
        except NotFound:
            term = self._next_term(is_ours=False, seen=-1)
            self._mine = await self._box.create_lease(self._manifest(self._spec(term)))
            self.term = term
            return True
        spec: Manifest = lease.get("spec") or {}
        holder = spec.get("holderIdentity")
        if holder and holder != self.identity and not self._has_expired(lease, before):
            self._valid_until = -math.inf
            return False
        is_ours = holder == self.identity
        term = self._next_term(is_ours=is_ours, seen=int(spec.get("leaseTransitions") or 0))
        acquired = spec.get("acquireTime") if is_ours else None
        self._mine = await self._box.replace_lease({**lease, "spec": self._spec(term, acquired)})
        self.term = term
        return True

    async def _renewed(self) -> bool:
        """Renew without reading: half as many requests, and a server that is slow is slow only once.

        After any failure the record is read again.
        """
        mine, self._mine = self._mine, None
        if mine is None or self.term is None:
            return False
        spec = self._spec(self.term, mine["spec"].get("acquireTime"))
        try:
            self._mine = await self._box.replace_lease({**mine, "spec": spec})
        except Conflict:
            return False
        return True

    def _has_expired(self, lease: Manifest, before: float) -> bool:
        """Say whether this record was seen unchanged for its whole duration.

        Versions are compared, not times: a renewal counts even when the holder's wall clock stands.
        """
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen:
            self._seen, self._seen_at = version, self._monotonic()
            self._seen_duration = float(lease["spec"].get("leaseDurationSeconds") or self._duration)
            return False
        return before - self._seen_at >= self._seen_duration

    def _next_term(self, *, is_ours: bool, seen: int) -> int:
        return seen if is_ours else max(seen, -1 if self.term is None else self.term) + 1

    def _patience(self, now: float) -> float:
        """Return the seconds for one attempt: a leader keeps time for a second try."""
        if self._valid_until > now:
            return min(self._valid_until - now, max(self._retry, self._renew / 2))
        return self._renew

    def _until_next(self) -> float:
        """Return the pause, shorter when the seen holder expires before it ends."""
        pause = self._retry * self._jitter(1.0, 1.2)
        expires_in = self._seen_at + self._seen_duration - self._monotonic()
        return min(pause, expires_in) if self._seen and expires_in > 0 else pause

    def _spec(self, term: int, acquired: Any = None) -> Manifest:
        now = self._wall().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, math.ceil(self._duration)),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": term,
        }

    def _manifest(self, spec: Manifest) -> Manifest:
        return {
            "apiVersion": LEASE_API,
            "kind": "Lease",
            "metadata": {"namespace": self._lease.namespace, "name": self._lease.name},
            "spec": spec,
        }
