"""Read from Prometheus how large the caches of ready engines became, once for each revision."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelops.analysis import queries
from modelops.clients.errors import Invalid, Unavailable
from modelops.clients.prometheus import Prometheus, Series
from modelops.controllers import references, rows
from modelops.controllers.rows import loaded
from modelops.controllers.seam import Parts
from modelops.controllers.services import REPORTS
from modelops.controllers.store import Key, OwnRow, Store
from modelops.engines import by_name
from modelops.engines.base import CachePool
from modelops.placement.learned import Report
from modelops.plan import Reason

log = logging.getLogger(__name__)

PAUSE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A revision with a ready pod whose cache nobody knows yet."""

    key: Key
    revision: str
    pool: CachePool

    @property
    def promql(self) -> str:
        """Return the query of the pods' own series."""
        selector = queries.Selector(self.key.namespace, self.key.name, (self.revision,))
        return queries.range_query(self.pool.series, selector)


class Pools:
    """Ask about every revision until it has told; a Prometheus that does not answer is asked again."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        settings = parts.settings.prometheus
        self._prometheus = Prometheus(settings.url, settings.timeout)

    async def run(self) -> None:
        """Ask for ever."""
        try:
            while True:
                await asyncio.sleep(PAUSE_SECONDS)
                await self.look()
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._prometheus.close()

    async def look(self) -> None:
        """Ask once about each revision that has not told."""
        for asked in list(unknown(self._parts.store)):
            try:
                found = await self._prometheus.query(asked.promql)
            except (Unavailable, Invalid) as error:
                log.debug("%s/%s: cannot read the cache: %s", asked.key.namespace, asked.key.name, error)
                return
            report = read(asked, found)
            if report is not None:
                before = self._parts.observations.get(asked.key, REPORTS) or ()
                others = tuple(one for one in before if one.revision != asked.revision)
                self._parts.observations.put(asked.key, REPORTS, (*others, report))


def unknown(store: Store) -> Iterator[Asked]:
    """Yield what to ask: revisions with a ready pod, planned with figures, that no status tells of."""
    for row in store.rows("InferenceService"):
        if not isinstance(row, OwnRow):
            continue
        placed = (loaded(row).get("status") or {}).get("placement") or {}
        known = {one.get("basis") for one in placed.get("measured") or ()}
        key = Key("InferenceService", row.namespace, row.name)
        ready = _ready(store, key)
        for record in placed.get("revisions") or ():
            basis = (record.get("placement") or {}).get("basis")
            engine = by_name(record.get("engine", ""))
            if not basis or basis in known or record["hash"] not in ready or isinstance(engine, Reason):
                continue
            if engine.queries.pool is not None:
                yield Asked(key, record["hash"], engine.queries.pool)


def read(asked: Asked, found: Iterable[Series]) -> Report | None:
    """Return the smallest cache among the pods; None: none of them tells."""
    series, pool = list(found), asked.pool
    tokens = [_label(one.labels, pool.tokens_label) for one in series]
    if not pool.tokens_label:
        tokens = [int(one.values[-1][1]) for one in series if one.values and one.values[-1][1] >= 0]
    blocks = [_label(one.labels, pool.blocks_label) for one in series]
    least_tokens = min((n for n in tokens if n), default=None)
    least_blocks = min((n for n in blocks if n), default=None)
    if least_tokens is None and least_blocks is None:
        return None
    return Report(asked.revision, least_tokens, least_blocks)


def _label(labels: Mapping[str, Any], name: str) -> int:
    """Return a label as a number; 0 where it is none."""
    text = str(labels.get(name, "")) if name else ""
    return int(text) if text.isdecimal() else 0


def _ready(store: Store, key: Key) -> set[str]:
    pods = store.find("Pod", references.BY_SERVICE, f"{key.namespace}/{key.name}")
    return {
        pod.revision
        for pod in pods
        if isinstance(pod, rows.PodStored) and pod.is_ready and not pod.is_terminating
    }
