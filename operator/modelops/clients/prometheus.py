"""Ask Prometheus; every failure is told apart from an answer without data."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp

from modelops.clients.errors import Invalid, Unavailable


@dataclass(frozen=True, slots=True)
class Series:
    """One time series: labels and (epoch seconds, value), ascending; NaN and infinities stay as they are."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]


class Prometheus:
    """One Prometheus, or anything that speaks its HTTP API."""

    def __init__(self, url: str, timeout: timedelta = timedelta(seconds=10)) -> None:
        self._url = url.rstrip("/")
        self._seconds = timeout.total_seconds()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def query(self, promql: str, at: datetime | None = None) -> tuple[Series, ...]:
        """Return the value of each series at *at* (now when None); no data is an empty tuple.

        Raises:
            Unavailable: no answer in time, or Prometheus could not evaluate it now.
            Invalid: the query is wrong.
        """
        form = {"query": promql, **({"time": str(at.timestamp())} if at else {})}
        return _series(await self._ask("query", form))

    async def query_range(
        self,
        promql: str,
        start: datetime,
        end: datetime,
        step: timedelta,
        lookback: timedelta | None = None,
    ) -> tuple[Series, ...]:
        """Return every series from *start* to *end*, both inclusive, one value each *step*.

        A value is the last sample within *lookback* (Prometheus: 5 minutes) before its instant.

        Raises:
            Unavailable: as in `query`.
            Invalid: as in `query`.
        """
        form = {
            "query": promql,
            "start": str(start.timestamp()),
            "end": str(end.timestamp()),
            "step": str(step.total_seconds()),
            **({"lookback_delta": f"{lookback.total_seconds():g}s"} if lookback else {}),
        }
        return _series(await self._ask("query_range", form))

    async def _ask(self, what: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Post one question and return the ``data`` of the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        form = {**form, "timeout": f"{math.ceil(self._seconds * 1000)}ms"}
        try:
            async with (
                asyncio.timeout(self._seconds + 1),
                self._session.post(f"{self._url}/api/v1/{what}", data=form) as response,
            ):
                answer = await response.json(content_type=None)
                code = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"Prometheus {self._url}: {type(error).__name__} {error}".rstrip()) from error
        if not isinstance(answer, dict):
            raise Unavailable(f"Prometheus {self._url}: wanted a JSON object, found HTTP {code}")
        if answer.get("status") == "success":
            data: Mapping[str, Any] = answer["data"]
            return data
        told = f"Prometheus {self._url}: {answer.get('errorType')}: {answer.get('error') or f'HTTP {code}'}"
        # 400 bad_data is a query that can never work; 422 and 503 depend on the moment.
        raise Invalid(told) if code == 400 else Unavailable(told)


def _series(data: Mapping[str, Any]) -> tuple[Series, ...]:
    """Return the series of a vector, matrix or scalar result."""
    result = data["result"]
    match data["resultType"]:
        case "matrix":
            return tuple(Series(row["metric"], _values(row["values"])) for row in result)
        case "vector":
            return tuple(Series(row["metric"], _values([row["value"]])) for row in result)
        case "scalar":
            return (Series({}, _values([result])),)
        case other:
            raise Invalid(f"Prometheus: wanted a vector, matrix or scalar, found {other}")


def _values(pairs: list[list[Any]]) -> tuple[tuple[float, float], ...]:
    """Parse [epoch seconds, "number"] pairs; the number may be NaN, +Inf or -Inf."""
    return tuple((float(at), float(text)) for at, text in pairs)
