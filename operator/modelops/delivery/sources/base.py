"""What every source of bytes can do."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from modelops.artifacts.facts import Known
from modelops.plan import Reason

CHUNK_BYTES = 2**20


class Refused(Exception):
    """The source will not give this, however often it is asked."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Unavailable(Exception):
    """Not now: the source does not answer, or the connection was lost.  Without any address's query."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Credential:
    """A token for the source, and the Secret it came from; printing it shows no token."""

    token: str = field(default="", repr=False)
    secret: str = ""
    """namespace/name, empty when it is not known."""

    @property
    def where(self) -> str:
        """Return how to name the Secret in a sentence."""
        return f"Secret {self.secret}" if self.secret else "the Secret of spec.authSecretRef"


def redacted(text: str, token: str) -> str:
    """Return *text* with the token blacked out, should a hub have echoed it; shorter than 8 is no token."""
    return text.replace(token, "***") if len(token) >= 8 else text


@dataclass(frozen=True, slots=True)
class File:
    """One file of a listing."""

    path: str
    size: int
    sha256: str | None = None
    """Hex, where the source knows it."""
    blob: str | None = None
    """Git's id of the content (SHA-1), where the source knows only that."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything that one pinned revision holds."""

    uri: str
    revision: str
    files: tuple[File, ...]
    facts: Known = field(default_factory=dict)
    """What the source itself says of the model."""

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of one file, from ``offset`` on."""

    offset: int
    etag: str
    """A strong ETag to resume with, or empty."""
    chunks: AsyncIterator[bytes]
    """Ends early with Unavailable when the connection is lost."""


class Source(Protocol):
    """List a pinned revision and stream its files."""

    @property
    def name(self) -> str:
        """Return how sentences call it, such as "acme/chat@v1 on hub.example"."""

    async def resolve(self) -> Listing | Reason:
        """Pin the revision and list its files.

        Raises:
            Unavailable: the source does not answer.
        """

    def open(
        self, listing: Listing, file: File, offset: int = 0, *, length: int | None = None, etag: str = ""
    ) -> AbstractAsyncContextManager[Body]:
        """Stream *file* from *offset*, at most *length* bytes.

        With *etag* the rest comes only if the content is still that one; else the body starts at 0.

        Raises:
            Refused, Unavailable: on entering, or while the chunks are read.
        """

    async def close(self) -> None:
        """Close every connection."""
