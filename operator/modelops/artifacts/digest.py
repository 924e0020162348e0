"""Name a set of files by one digest, so that different bytes can never share a name."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from modelops.plan import Reason

MAX_FILES = 10_000
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255

_HEX = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def artifact_digest(files: Mapping[str, str]) -> str:
    """Return ``sha256:`` and the digest of *files*, which maps a path to its hex sha256.

    The digest covers the lines ``<sha256>  <path>\\n``, sorted bytewise.  Coreutils give the same:
    ``find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum``.

    Raises:
        ValueError: `refuses` has a reason against the paths, or a hash is not 64 hex digits.

    Source: research/governance.md 3.1; its golden is a test.
    """
    reason = refuses(files)
    if reason is not None:
        raise ValueError(reason.message)
    if bad := next((path for path, sha256 in files.items() if not _HEX.fullmatch(sha256)), None):
        raise ValueError(f"{bad!r}: needs a sha256 of 64 lower-case hex digits, found {files[bad]!r}")
    lines = sorted(f"{sha256}  {path}\n".encode() for path, sha256 in files.items())
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


def is_digest(text: object) -> bool:
    """Tell whether *text* is written as ``sha256:<64 hex digits>``."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def refuses(paths: Iterable[str]) -> Reason | None:
    """Return why these paths cannot be the files of one artifact, or None.

    Names must mean the same on every file system and survive ``sha256sum`` unescaped: relative,
    no ``..``, no control character or backslash, unique after Unicode NFC, and no file that is
    also a folder of another.
    """
    listed = list(paths)
    if not listed:
        return Reason("NoFiles", "artifact: needs at least one file, found none; check the source's patterns")
    if len(listed) > MAX_FILES:
        return Reason(
            "TooManyFiles",
            f"artifact: holds at most {MAX_FILES} files, found {len(listed)}; narrow the source's patterns",
        )
    for path in listed:
        if problem := _problem(path):
            return Reason(
                "BadPath",
                f"file {shown(path)}: {problem}; rename it at the source or exclude it by a pattern",
            )
    return _collision(listed)


def shown(text: str, limit: int = 128) -> str:
    """Return untrusted *text* quoted, on one line, without control characters, at most *limit* long."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else quoted[: limit - 4] + "...'"


def _problem(path: str) -> str | None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "needs a name in Unicode, found a lone surrogate"
    if not path or path.startswith("/"):
        return "needs a relative path, found an absolute or empty one"
    if len(encoded) > MAX_PATH_BYTES:
        return f"needs a path of at most {MAX_PATH_BYTES} bytes, found {len(encoded)}"
    if "\\" in path or any(unicodedata.category(letter) == "Cc" for letter in path):
        return "needs a path without backslashes and control characters, found one"
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        return "needs a path without empty, '.' and '..' parts, found one"
    if any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        return f"needs names of at most {MAX_NAME_BYTES} bytes, found a longer one"
    return None


def _collision(paths: list[str]) -> Reason | None:
    seen: dict[str, str] = {}
    for path in paths:
        normal = unicodedata.normalize("NFC", path)
        if normal in seen:
            return Reason(
                "BadPath",
                f"file {shown(path)}: needs a name of its own, found {shown(seen[normal])} beside it; "
                "rename one at the source",
            )
        seen[normal] = path
    for normal, path in seen.items():
        parts = normal.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(1, len(parts))):
            return Reason(
                "BadPath",
                f"file {shown(path)}: needs its folder to be a folder, found a file of that name; "
                "rename one at the source",
            )
    return None
