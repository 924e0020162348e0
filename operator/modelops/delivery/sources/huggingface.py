"""Hugging Face Hub, and every server that speaks its protocol."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from fnmatch import fnmatch
from typing import Any, Self
from urllib.parse import quote, urljoin

import aiohttp
from yarl import URL

from modelops.artifacts.digest import refuses, shown
from modelops.delivery.address import AddressRefused, Guard, Origin, origin
from modelops.delivery.sources.base import CHUNK_BYTES, Body, Credential, File, Listing, Refused, Unavailable
from modelops.delivery.sources.checked import CheckedResolver
from modelops.plan import Reason

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_REDIRECTS = 5
METADATA_SECONDS = 30
SILENT_SECONDS = 60

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class HuggingFace:
    """One repository at one revision."""

    field = "huggingFace"

    def __init__(
        self,
        repo: str,
        revision: str,
        endpoint: str,
        at: Origin,
        credential: Credential,
        guard: Guard,
        allow: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
    ) -> None:
        self._repo, self._revision = repo, revision
        self._endpoint, self._origin = endpoint, at
        self._credential, self._guard = credential, guard
        self._allow, self._ignore = allow, ignore
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(
        cls,
        spec: Mapping[str, Any],
        credential: Credential,
        *,
        revision: str | None = None,
        allowed_hosts: frozenset[str] = frozenset(),
    ) -> Self | Reason:
        """Return the source for ``spec.source.huggingFace``; its own host may be private.

        Whether that host may be called at all is the administrator's list, which was asked before.
        """
        repo = spec.get("repo")
        if not isinstance(repo, str) or not _REPO.fullmatch(repo) or ".." in repo:
            return Reason(
                "BadRepository", f"repo {shown(str(repo))}: needs owner/name, found another form; correct it"
            )
        endpoint = str(spec.get("endpoint") or DEFAULT_ENDPOINT).rstrip("/")
        at = origin(endpoint)
        if isinstance(at, Reason):
            return at
        return cls(
            repo,
            revision or str(spec.get("revision") or "main"),
            endpoint,
            at,
            credential,
            Guard(allowed_hosts | {at.host}),
            spec.get("allowPatterns"),
            spec.get("ignorePatterns"),
        )

    @property
    def name(self) -> str:
        """Return repository, revision and host."""
        return f"{self._repo}@{self._revision} on {self._origin.host}"

    async def resolve(self) -> Listing | Reason:
        """Pin the revision to a commit and list the files that the patterns choose."""
        try:
            async with asyncio.timeout(2 * METADATA_SECONDS):
                info = await asyncio.to_thread(self._info)
        except Refused as refused:
            return refused.reason
        except TimeoutError as error:
            raise Unavailable(
                f"{self.name}: needs an answer, found none in {2 * METADATA_SECONDS} s"
            ) from error
        return self._listing(info)

    @asynccontextmanager
    async def open(
        self, listing: Listing, file: File, offset: int = 0, *, length: int | None = None, etag: str = ""
    ) -> AsyncIterator[Body]:
        """Stream a file from the pinned commit; each call asks the hub, since signed addresses expire."""
        headers = {"Accept-Encoding": "identity"}
        if offset or length is not None:
            headers["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        if offset and etag:
            headers["If-Range"] = etag
        url = f"{self._endpoint}/{self._repo}/resolve/{listing.revision}/{quote(file.path)}"
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._get(url, headers, file))
            except AddressRefused as error:
                raise Refused(error.reason) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._lost(file, error) from None
            # Outside the try: what the caller does with the bytes (a full disk) is no fault of the hub.
            yield self._body(response, file, offset)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _info(self) -> Any:
        """Ask the hub for the repository, in a thread; errors become ours, without addresses or tokens."""
        from modelops.delivery.sources import checked

        with checked.hub_client(self._guard):
            return self._ask()

    def _ask(self) -> Any:
        # Imported late: it costs 20 MB, which `delivery wait` must not pay.
        import httpx2
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        api = HfApi(endpoint=self._endpoint, token=self._credential.token or False, library_name="modelops")
        try:
            return api.model_info(
                self._repo, revision=self._revision, files_metadata=True, timeout=METADATA_SECONDS
            )
        except GatedRepoError:
            raise Refused(self._gated()) from None
        except RevisionNotFoundError:
            raise Refused(self._no_revision()) from None
        except RepositoryNotFoundError:
            raise Refused(self._no_repository()) from None
        except HfHubHTTPError as error:
            raise self._failure(error.response.status_code, error.response.headers) from None
        except AddressRefused as error:
            raise Refused(error.reason) from None
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{self.name}: needs an answer, found {type(error).__name__}") from None

    def _listing(self, info: Any) -> Listing | Reason:
        commit = info.sha
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            return self._strange("a commit of 40 hex digits")
        if _COMMIT.fullmatch(self._revision) and commit != self._revision:
            return self._strange(f"the commit {self._revision} that was asked for")
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        chosen = selected(siblings, self._allow, self._ignore)
        if reason := refuses(chosen):
            return Reason(reason.code, f"{self.name}: {reason.message}")
        files = [_file(siblings[path]) for path in sorted(chosen)]
        known = [file for file in files if file is not None]
        if len(known) < len(files):
            return self._strange("a size and a hash for each file")
        licence = info.card_data.get("license") if info.card_data else None
        return Listing(
            uri=f"hf://{self._repo}@{commit}",
            revision=commit,
            files=tuple(known),
            facts={"gated": bool(info.gated), "license": licence if isinstance(licence, str) else None},
        )

    @asynccontextmanager
    async def _get(
        self, url: str, headers: Mapping[str, str], file: File
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Follow redirects by hand: the token goes to the hub's own origin and nowhere else."""
        session = self._opened()
        for _ in range(MAX_REDIRECTS + 1):
            at = origin(url)
            if isinstance(at, Reason):
                raise Refused(at)
            if reason := self._guard.refuses_literal(at.host):
                raise Refused(reason)
            if self._origin.scheme == "https" and at.scheme != "https":
                raise Refused(self._strange("https all the way, a redirect to http"))
            own = {"Authorization": f"Bearer {self._credential.token}"}
            sent = {**headers, **(own if self._credential.token and at == self._origin else {})}
            address = URL(url, encoded=True)
            if address.host is None or origin(str(address.origin())) != at:
                raise Refused(self._strange("an address that every parser reads alike"))
            async with session.get(address, headers=sent, allow_redirects=False) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    self._check(response, file)
                    yield response
                    return
                url = urljoin(url, response.headers.get("Location", ""))
        raise Refused(self._strange(f"at most {MAX_REDIRECTS} redirects"))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=CheckedResolver(self._guard), limit=16),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=SILENT_SECONDS),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=CHUNK_BYTES,
            )
        return self._session

    def _check(self, response: aiohttp.ClientResponse, file: File) -> None:
        """Raise unless *response* is the content of *file*, or a part of it."""
        if response.status == 416:
            raise Refused(self._wrong_length(file, "fewer"))
        if response.status == 404:
            raise Refused(
                Reason("FileMissing", f"{self.name}: needs {shown(file.path)}, found none; upload it again")
            )
        if response.status not in (200, 206):
            raise self._failure(response.status, response.headers)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(self._strange("the bytes as they are, a compressed body"))

    def _body(self, response: aiohttp.ClientResponse, file: File, offset: int) -> Body:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206:
            if found is None or int(found[1]) != offset:
                raise Refused(self._strange(f"the range from byte {offset} of {shown(file.path)}"))
            total = file.size if found[3] == "*" else int(found[3])
        else:
            offset = 0
            total = file.size if response.content_length is None else response.content_length
        if total != file.size:
            raise Refused(self._wrong_length(file, str(total)))
        etag = response.headers.get("ETag", "")
        return Body(offset, etag if etag.startswith('"') else "", self._chunks(response, file))

    async def _chunks(self, response: aiohttp.ClientResponse, file: File) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._lost(file, error) from None

    def _lost(self, file: File, error: Exception) -> Unavailable:
        """Return the error without its cause, whose text may hold a signed address."""
        return Unavailable(
            f"{self.name}: needs all of {shown(file.path)}, "
            f"found the connection lost ({type(error).__name__})"
        )

    def _failure(self, status: int, headers: Mapping[str, str]) -> Refused | Unavailable:
        if status == 429 or status >= 500 or status == 408:
            pause = headers.get("Retry-After", "")
            seconds = float(pause) if pause.isascii() and pause.isdigit() else None
            return Unavailable(f"{self.name}: needs an answer, found HTTP {status}", seconds)
        code = headers.get("X-Error-Code")
        if code == "GatedRepo":
            return Refused(self._gated())
        if status == 401 and self._credential.token:
            return Refused(
                Reason(
                    "TokenRefused",
                    f"{self.name}: needs a token that the hub knows, found one that it refuses (401); "
                    f"renew key token of {self._credential.where}",
                )
            )
        if status in (401, 403):
            return Refused(self._no_repository() if status == 401 else self._no_access())
        return Refused(self._strange(f"the file or its reason, HTTP {status}"))

    def _no_repository(self) -> Reason:
        if self._credential.token:
            return Reason(
                "RepositoryNotFound",
                f"{self.name}: needs a repository that its token may read, found none; correct repo, "
                f"or put a token with access into key token of {self._credential.where}",
            )
        return Reason(
            "RepositoryNotFound",
            f"{self.name}: needs a repository that anybody may read, found none (401, no token was given); "
            'correct repo, or name a Secret with key token and label modelops.dev/delivery: "true" '
            "in spec.authSecretRef",
        )

    def _no_access(self) -> Reason:
        return Reason(
            "AccessDenied",
            f"{self.name}: needs a token that may read the repository, found access denied (403); "
            f"grant it to the account of the token in {self._credential.where}",
        )

    def _gated(self) -> Reason:
        where = self._credential.where if self._credential.token else "a Secret named in spec.authSecretRef"
        return Reason(
            "RepositoryGated",
            f"{self.name}: needs access that its owner grants, found it gated; accept its terms on the hub "
            f"with the account of the token in {where}",
        )

    def _no_revision(self) -> Reason:
        return Reason(
            "RevisionNotFound",
            f"{self.name}: needs the revision {shown(self._revision)}, found none of that name; "
            "name a commit, tag or branch that exists",
        )

    def _wrong_length(self, file: File, found: str) -> Reason:
        return Reason(
            "WrongLength",
            f"{self.name}: needs {file.size} bytes of {shown(file.path)}, found {found}; "
            "upload the file again or report it to the hub's administrator",
        )

    def _strange(self, wanted_and_found: str) -> Reason:
        wanted, _, found = wanted_and_found.partition(", ")
        return Reason(
            "BadAnswer",
            f"{self.name}: needs {wanted} from the hub, found {found or 'none'}; check huggingFace.endpoint",
        )


def selected(
    paths: Iterable[str], allow: Sequence[str] | None, ignore: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the paths that match a pattern of *allow* (None: all) and none of *ignore*.

    A pattern that ends in a slash means the folder.  Source: huggingface_hub, filter_repo_objects,
    which the test compares with.
    """

    def matches(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatch(path, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)

    return tuple(
        path for path in paths if (allow is None or matches(path, allow)) and not matches(path, ignore or ())
    )


def _file(sibling: Any) -> File | None:
    """Return a file of the hub's listing, None when its size or its hash is missing or malformed."""
    lfs = sibling.lfs
    size = lfs.size if lfs else sibling.size
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**53:
        return None
    if lfs:
        is_hash = isinstance(lfs.sha256, str) and re.fullmatch(r"[0-9a-f]{64}", lfs.sha256)
        return File(sibling.rfilename, size, sha256=lfs.sha256) if is_hash else None
    is_id = isinstance(sibling.blob_id, str) and _COMMIT.fullmatch(sibling.blob_id)
    return File(sibling.rfilename, size, blob=sibling.blob_id) if is_id else None
