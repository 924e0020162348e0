"""The Job that pins a version: which commit, which bytes, which model."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, TypeVar

from modelops.artifacts import facts, formats, gguf, huggingface_config, safetensors
from modelops.artifacts.canonical import canonical
from modelops.artifacts.digest import artifact_digest, shown
from modelops.artifacts.facts import Known
from modelops.artifacts.header import More
from modelops.delivery.sources.base import File, Listing, Refused, Source, Unavailable
from modelops.plan import Reason

MAX_ANSWER_BYTES = 4096
"""What Kubernetes keeps of a termination message."""
MAX_PLAIN_BYTES = 128 * 2**20
"""Of a file whose sha256 the source does not tell and which is therefore read whole."""
MAX_KEPT_BYTES = 16 * 2**20
MAX_MAIN_FILE = 1024
PARALLEL = 4
ATTEMPTS = 4

Answer = Mapping[str, Any]
Merged = list[tuple[str, Known]]
Header = TypeVar("Header", covariant=True)


class Parse(Protocol[Header]):
    """Read a header from the beginning of a file, or say how much more of it is needed."""

    def __call__(self, data: bytes, file: str, file_bytes: int | None = None) -> "Header | More | Reason": ...


async def resolve(source: Source) -> Answer:
    """Return the verdict about *source*: pinned with its facts, or refused with a reason.

    Raises:
        Unavailable: the source does not answer, so nothing can be said.
    """
    try:
        listing = await source.resolve()
        if isinstance(listing, Reason):
            return refused(listing)
        return await _judge(source, listing)
    except Refused as error:
        return refused(error.reason)


def refused(reason: Reason) -> Answer:
    """Return the verdict that says no."""
    return {
        "v": 1,
        "verdict": "Refused",
        "reason": {"code": reason.code, "message": _printable(reason.message)[:1024]},
    }


def written(answer: Answer) -> bytes:
    """Return *answer* as one JSON object of at most 4096 bytes.

    When it is long provenance goes first, then the layers, which are planned as full without it.

    >>> written({"v": 1, "verdict": "Refused"})
    b'{"v":1,"verdict":"Refused"}'
    """
    text = canonical(dict(answer))
    kept = dict(answer.get("facts") or {})
    for spare in ("provenance", "attention"):
        if len(text) > MAX_ANSWER_BYTES and kept.pop(spare, None) is not None:
            text = canonical({**answer, "facts": kept})
    return text


async def _judge(source: Source, listing: Listing) -> Answer:
    kept: dict[str, bytes] = {}
    hashes = await _hashes(source, listing, kept)
    found = await _facts(source, listing, kept)
    if isinstance(found, Reason):
        return refused(Reason(found.code, f"{source.name}: {found.message}"))
    return {
        "v": 1,
        "verdict": "Resolved",
        "revision": listing.revision,
        "artifactDigest": artifact_digest(hashes),
        "files": len(listing.files),
        "bytes": listing.bytes,
        "facts": {"uri": listing.uri, **facts.merge(found)},
    }


async def _hashes(source: Source, listing: Listing, kept: dict[str, bytes]) -> dict[str, str]:
    """Return the sha256 of each file; those the source does not tell are read, small JSON files kept."""
    slots = asyncio.Semaphore(PARALLEL)

    async def one(file: File) -> tuple[str, str]:
        if file.sha256 is not None and not _is_wanted(file):
            return file.path, file.sha256
        async with slots:
            return file.path, await _read(source, listing, file, kept)

    return dict(await asyncio.gather(*(one(file) for file in listing.files)))


def _is_wanted(file: File) -> bool:
    return file.path in ("config.json", safetensors.INDEX) and file.size <= MAX_KEPT_BYTES


async def _read(source: Source, listing: Listing, file: File, kept: dict[str, bytes]) -> str:
    if file.size > MAX_PLAIN_BYTES:
        raise Refused(
            Reason(
                "FileNotInLfs",
                f"{source.name}: needs {shown(file.path)} in LFS from {MAX_PLAIN_BYTES} bytes on, "
                f"found {file.size} bytes in git; track it with LFS",
            )
        )
    content, sha256, blob = bytearray(), hashlib.sha256(), _blob(file.size)
    count = 0
    async for chunk in _bytes(source, listing, file):
        count += len(chunk)
        sha256.update(chunk)
        blob.update(chunk)
        if _is_wanted(file):
            content += chunk
    wanted, found = (file.sha256, sha256.hexdigest()) if file.sha256 else (file.blob, blob.hexdigest())
    if count != file.size or (wanted is not None and wanted != found):
        raise Refused(
            Reason(
                "DigestMismatch",
                f"{source.name}: needs {wanted} for {shown(file.path)}, found {found}; "
                "upload the file again or report it to the hub's administrator",
            )
        )
    if _is_wanted(file):
        kept[file.path] = bytes(content)
    return sha256.hexdigest()


async def _bytes(source: Source, listing: Listing, file: File) -> AsyncIterator[bytes]:
    """Yield the content; a lost connection is taken up again where it broke."""
    position, attempt = 0, 0
    while position < file.size:
        try:
            async with source.open(listing, file, position) as body:
                if body.offset != position:
                    raise Unavailable(f"{source.name}: needs ranges of {shown(file.path)}, found none")
                async for chunk in body.chunks:
                    position += len(chunk)
                    yield chunk
            if position < file.size:
                raise Unavailable(f"{source.name}: needs all of {shown(file.path)}, found {position} bytes")
        except Unavailable as error:
            attempt += 1
            if attempt >= ATTEMPTS:
                raise
            await asyncio.sleep(error.retry_after_seconds or 0.5 * 2**attempt)


async def _facts(source: Source, listing: Listing, kept: Mapping[str, bytes]) -> Merged | Reason:
    paths = [file.path for file in listing.files]
    config: Mapping[str, Any] | None = None
    if "config.json" in kept:
        read = huggingface_config.read(kept["config.json"])
        if isinstance(read, Reason):
            return read
        config = read
    kind, main = await _kind(source, listing)
    names: Known = {
        "format": kind,
        "mainFile": main,
        "remoteCode": formats.has_code(paths),
        "pickle": formats.has_pickle(paths),
    }
    weights: Merged | Reason = []
    if kind == "GGUF":
        weights = await _gguf(source, listing)
    elif kind == "safetensors":
        weights = await _safetensors(source, listing, kept)
    if isinstance(weights, Reason):
        return weights
    told: Merged = [("config.json", huggingface_config.facts(config))] if config is not None else []
    return [*weights, *told, ("file names", names), ("hub", listing.facts)]


async def _kind(source: Source, listing: Listing) -> tuple[str, str | None]:
    """Return the format, and the file of a predictive model; where names do not tell, the content does."""
    paths = {file.path: file for file in listing.files}
    kind = formats.format_of(paths)
    vague = formats.vague(paths)
    if kind != "Other" or vague is None:
        return kind, _bounded(formats.main_file(kind, paths))
    file = paths[vague]
    kind = formats.format_of_head(await _part(source, listing, file, 0, min(64, file.size)))
    return kind, None if kind == "Other" else _bounded(vague)


def _bounded(path: str | None) -> str | None:
    return path if path is not None and len(path) <= MAX_MAIN_FILE else None


async def _gguf(source: Source, listing: Listing) -> Merged | Reason:
    """Return the facts of the only model there; projectors and adapters beside it are no models."""
    by_path = {file.path: file for file in listing.files}
    models = formats.gguf_shards(by_path)
    if isinstance(models, Reason):
        return models
    headers: dict[str, gguf.Header] = {}
    for main in models:
        header = await _header(source, listing, by_path[main], gguf.read_header)
        if isinstance(header, Reason):
            return header
        if gguf.is_model(header):
            headers[main] = header
    if len(headers) != 1:
        return formats.ambiguous(headers or models)
    main, header = headers.popitem()
    if len(main) > MAX_MAIN_FILE:
        return Reason(
            "BadPath", f"file {shown(main)}: needs a path of at most {MAX_MAIN_FILE} letters; rename it"
        )
    total, parameters = header.tensor_bytes, header.parameters
    for shard in models[main][1:]:
        more = await _header(source, listing, by_path[shard], gguf.read_header)
        if isinstance(more, Reason):
            return more
        parameters += more.parameters
        total = None if total is None or more.tensor_bytes is None else total + more.tensor_bytes
    known = {**gguf.facts(header), "parameters": parameters, "weightsBytes": total}
    return [("GGUF header", known), ("file names", {"mainFile": main})]


async def _safetensors(source: Source, listing: Listing, kept: Mapping[str, bytes]) -> Merged | Reason:
    by_path = {file.path: file for file in listing.files}
    index: Mapping[str, Any] | None = None
    if safetensors.INDEX in kept:
        read = huggingface_config.read(kept[safetensors.INDEX], safetensors.INDEX)
        if isinstance(read, Reason):
            return read
        index = read
    loaded = safetensors.weight_files(by_path, index)
    if missing := [path for path in loaded if path not in by_path]:
        return Reason(
            "ShardMissing",
            f"{safetensors.INDEX}: needs {shown(missing[0])}, found no such file; "
            "upload it or widen the source's patterns",
        )
    slots = asyncio.Semaphore(PARALLEL)

    async def one(path: str) -> safetensors.Header | Reason:
        async with slots:
            return await _header(source, listing, by_path[path], safetensors.read_header)

    total, parameters = 0, 0
    for header in await asyncio.gather(*(one(path) for path in loaded)):
        if isinstance(header, Reason):
            return header
        total, parameters = total + header.tensor_bytes, parameters + header.parameters
    return [("safetensors headers", {"weightsBytes": total, "parameters": parameters})]


async def _header(source: Source, listing: Listing, file: File, parse: Parse[Header]) -> Header | Reason:
    """Return the parsed header of *file*, or a Reason; reads only what the parser asks for."""
    data = bytearray()
    wanted = min(file.size, 256 * 1024)
    while True:
        while len(data) < wanted:
            data += await _part(source, listing, file, len(data), wanted - len(data))
        header = await asyncio.to_thread(parse, bytes(data), shown(file.path), file.size)
        if not isinstance(header, More):
            return header
        wanted = min(file.size, max(header.wanted_bytes, 2 * len(data)))
        if wanted <= len(data):
            return Reason(
                "BadHeader",
                f"{shown(file.path)}: needs a whole header, found {file.size} bytes; upload the file again",
            )


async def _part(source: Source, listing: Listing, file: File, offset: int, length: int) -> bytes:
    for attempt in range(1, ATTEMPTS + 1):
        part = bytearray()
        try:
            async with source.open(listing, file, offset, length=length) as body:
                if body.offset != offset:
                    raise Unavailable(f"{source.name}: needs ranges of {shown(file.path)}, found none")
                async for chunk in body.chunks:
                    part += chunk
                    if len(part) >= length:
                        break
        except Unavailable as error:
            if not part and attempt == ATTEMPTS:
                raise
            if not part:
                await asyncio.sleep(error.retry_after_seconds or 0.5 * 2**attempt)
        if part:
            return bytes(part[:length])
    raise Unavailable(f"{source.name}: needs bytes of {shown(file.path)}, found none")


def _blob(size: int) -> Any:
    """Return a hash that ends as git's id of a content of *size* bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def from_environment(environ: Mapping[str, str]) -> Mapping[str, Any] | Reason:
    """Return ``spec.source`` as the operator handed it over in MODELOPS_SOURCE."""
    try:
        spec = json.loads(environ["MODELOPS_SOURCE"])
    except (KeyError, ValueError):
        spec = None
    if isinstance(spec, dict):
        return spec
    return Reason(
        "BadInput", "MODELOPS_SOURCE: needs spec.source as JSON, found something else; start the Job anew"
    )
