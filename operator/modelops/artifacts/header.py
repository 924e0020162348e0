"""What a reader of file headers may answer besides the header itself."""

from dataclasses import dataclass

from modelops.plan import Reason


@dataclass(frozen=True, slots=True)
class More:
    """The bytes at hand end before the header does: come back with at least ``wanted_bytes``."""

    wanted_bytes: int


def broken(file: str, wanted: str, found: str) -> Reason:
    """Return the reason against a file whose header cannot be true."""
    return Reason(
        "BadHeader",
        f"{file}: needs {wanted}, found {found}; upload the file again or exclude it by a pattern",
    )
