"""Bring every file of a listing into a folder: resumable, hashed on the way, in fixed memory."""

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops.artifacts.digest import shown
from modelops.delivery.sources.base import CHUNK_BYTES, File, Listing, Refused, Source, Unavailable
from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class Patience:
    """How hard one file is tried; a try that brought bytes starts the count anew."""

    attempts: int = 6
    first_seconds: float = 1.0
    longest_seconds: float = 30.0


async def fetch(
    source: Source,
    listing: Listing,
    staging: Path,
    *,
    told: Callable[[int], None],
    parallel: int = 4,
    patience: Patience = Patience(),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, str] | Reason:
    """Complete ``<staging>/files`` and return the sha256 of each file, or why it cannot be.

    What an earlier run left there is hashed again and continued.  *told* gets the number of bytes
    that are there, as it grows.  Ended at any byte, the next call goes on from there.

    Raises:
        Unavailable: the source is away for longer than *patience*.
    """
    slots = asyncio.Semaphore(parallel)
    there: dict[str, int] = {}
    hashes: dict[str, str] = {}

    def grown(path: str, count: int) -> None:
        there[path] = count
        told(sum(there.values()))

    async def one(file: File) -> None:
        async with slots:
            work = _Work(source, listing, file, staging, lambda count: grown(file.path, count))
            hashes[file.path] = await work.complete(patience, sleep)

    errors: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as group:
            for file in listing.files:
                group.create_task(one(file))
    except* (Refused, Unavailable, OSError) as group_error:
        errors = [error for error in _leaves(group_error) if isinstance(error, Exception)]
    for error in sorted(errors, key=lambda error: isinstance(error, Unavailable)):
        if isinstance(error, Refused):
            return error.reason
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return disk_full(source.name, listing.bytes, sum(there.values()), staging)
        raise error
    return hashes


def disk_full(name: str, wanted_bytes: int, there_bytes: int, folder: Path) -> Reason:
    """Return the reason when the disk below *folder* cannot take the files."""
    disk = os.statvfs(folder if folder.exists() else folder.parent)
    free = disk.f_bavail * disk.f_frsize
    return Reason(
        "DiskFull",
        f"{name}: needs {in_words(wanted_bytes - there_bytes)} more on the node's disk, "
        f"found {in_words(free)} free; free disk space on the node or give the store a larger disk",
    )


def in_words(count: int) -> str:
    """Return a number of bytes for people.

    >>> in_words(1536)
    '1.5 KiB'
    """
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"


class _Work:
    """One file on its way."""

    def __init__(
        self, source: Source, listing: Listing, file: File, staging: Path, told: Callable[[int], None]
    ) -> None:
        self._source, self._listing, self._file = source, listing, file
        self._told = told
        self._target = staging / "files" / file.path
        # Beside the files, so that nothing extra ever lies among them.
        name = hashlib.sha256(file.path.encode()).hexdigest()
        self._etag_file = staging / "etags" / name
        self._count = 0
        self._is_resumed = False
        self._hash, self._blob = self._hashers()

    async def complete(self, patience: Patience, sleep: Callable[[float], Awaitable[None]]) -> str:
        """Return the sha256 of the whole file.

        Raises:
            Refused: the content is not what was announced.
            Unavailable, OSError: the source or the disk gave up.
        """
        await asyncio.to_thread(self._take_up)
        self._told(self._count)
        await self._receive(patience, sleep)
        reason = self._mismatch()
        if reason is not None and self._is_resumed:
            # The part that was left may have been damaged: once more from the beginning.
            await asyncio.to_thread(self._restart)
            await self._receive(patience, sleep)
            reason = self._mismatch()
        if reason is not None:
            await asyncio.to_thread(self._restart)
            raise Refused(reason)
        return str(self._hash.hexdigest())

    async def _receive(self, patience: Patience, sleep: Callable[[float], Awaitable[None]]) -> None:
        failures = 0
        while self._count < self._file.size:
            before = self._count
            try:
                await self._stream()
                if self._count < self._file.size:
                    raise Unavailable(
                        f"{self._source.name}: needs {self._file.size} bytes of {shown(self._file.path)}, "
                        f"found the connection closed after {self._count}"
                    )
            except Unavailable as error:
                failures = 1 if self._count > before else failures + 1
                if failures >= patience.attempts:
                    raise
                pause = min(patience.first_seconds * 2 ** (failures - 1), patience.longest_seconds)
                await sleep(max(pause, error.retry_after_seconds or 0))
        await asyncio.to_thread(self._settle)

    async def _stream(self) -> None:
        etag = await asyncio.to_thread(self._etag) if self._count else ""
        async with self._source.open(self._listing, self._file, self._count, etag=etag) as body:
            if body.offset != self._count:
                await asyncio.to_thread(self._restart)
            elif self._count:
                self._is_resumed = True
            await asyncio.to_thread(self._remember, body.etag)
            with self._target.open("ab", buffering=0) as stream:
                async for chunk in body.chunks:
                    if self._count + len(chunk) > self._file.size:
                        raise Refused(
                            Reason(
                                "WrongLength",
                                f"{self._source.name}: needs {self._file.size} bytes of "
                                f"{shown(self._file.path)}, found more; upload the file again",
                            )
                        )
                    await asyncio.to_thread(self._put, stream, chunk)
                    self._told(self._count)

    def _put(self, stream: Any, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            written = stream.write(view)
            view = view[written:]
        self._hash.update(chunk)
        self._blob.update(chunk)
        self._count += len(chunk)

    def _take_up(self) -> None:
        """Hash what an earlier run left; a part longer than the file is worth nothing."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._etag_file.parent.mkdir(parents=True, exist_ok=True)
        if self._target.is_symlink() or not self._target.exists():
            self._restart()
            return
        if self._target.stat().st_size > self._file.size:
            self._restart()
            return
        with self._target.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                self._hash.update(chunk)
                self._blob.update(chunk)
                self._count += len(chunk)
        self._is_resumed = self._count > 0

    def _restart(self) -> None:
        self._target.unlink(missing_ok=True)
        self._target.touch(mode=0o600)
        self._etag_file.unlink(missing_ok=True)
        self._count = 0
        self._is_resumed = False
        self._hash, self._blob = self._hashers()

    def _settle(self) -> None:
        """Bring the bytes to the disk before anything relies on them."""
        descriptor = os.open(self._target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _etag(self) -> str:
        try:
            return self._etag_file.read_text()
        except FileNotFoundError:
            return ""

    def _remember(self, etag: str) -> None:
        self._etag_file.write_text(etag)

    def _hashers(self) -> tuple[Any, Any]:
        blob = hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)
        return hashlib.sha256(), blob

    def _mismatch(self) -> Reason | None:
        wanted, found = self._file.sha256, self._hash.hexdigest()
        if wanted is None:
            wanted, found = self._file.blob, self._blob.hexdigest()
        if wanted is None or wanted == found:
            return None
        return Reason(
            "DigestMismatch",
            f"{self._source.name}: needs {wanted} for {shown(self._file.path)}, found {found}; "
            "the bytes were damaged on the way or at the hub; upload the file again if it stays so",
        )


def _leaves(error: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for inner in error.exceptions:
        found += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return found
