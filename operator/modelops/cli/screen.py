"""What the reader's screen can show, and the small marks and words that depend on it."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TextIO

GOOD, BAD, BUSY, DIM, BOLD = "32", "31", "33", "2", "1"

_TONES = {
    GOOD: ("True", "Ready", "Approved", "Stable", "Trusted", "Serving", "stable", "yes", "GoodEnough"),
    BAD: (
        "False", "Failed", "Quarantined", "Rejected", "Revoked", "Expired", "RolledBack", "RollingBack",
        "rejected", "Worse", "Untrusted", "no",
    ),
    BUSY: (
        "Unknown", "Resolving", "Verifying", "PendingApproval", "AwaitingApproval", "Starting",
        "Progressing", "Paused", "Promoting", "Baking", "Reverting", "Superseding", "candidate",
    ),
}  # fmt: skip
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}

_MARKS = {
    "full": ("█", "#"),
    "half": ("▒", "+"),
    "empty": ("░", "."),
    "done": ("●", "*"),
    "here": ("◉", ">"),
    "ahead": ("○", "-"),
    "failed": ("✗", "x"),
    "arrow": ("→", "->"),
    "cut": ("…", "~"),
}


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen of *width* letters a line; None: no limit, nothing is cut or wrapped."""

    width: int | None = None
    has_colour: bool = False
    has_unicode: bool = True

    def mark(self, name: str) -> str:
        """Return a drawn mark, or letters where the encoding has none."""
        return _MARKS[name][0 if self.has_unicode else 1]

    def paint(self, text: str, tone: str) -> str:
        """Return *text* in a tone, where there are colours."""
        return f"\x1b[{tone}m{text}\x1b[0m" if self.has_colour and tone else text

    def word(self, text: str, padded: str | None = None) -> str:
        """Return a known word in its tone; *padded* is how it is laid out."""
        return self.paint(padded or text, _TONE_OF.get(text, ""))

    def wrap(self, text: str, lead: str = "", *, indent: int | None = None) -> list[str]:
        """Return *text* after *lead* in lines that fit; later lines are indented below the first."""
        if self.width is None:
            return [f"{lead}{text}"]
        return textwrap.wrap(
            text,
            max(self.width, 40),
            initial_indent=lead,
            subsequent_indent=" " * (len(lead) if indent is None else indent),
            break_on_hyphens=False,
            break_long_words=False,
        ) or [lead]

    def bar(self, share: float, cells: int, rest: str = "empty") -> str:
        """Return a bar of which *share* (0..1) is full; a share that is not 0 or 1 shows as neither."""
        full = round(share * cells)
        if 0 < share < 1:
            full = min(max(full, 1), cells - 1)
        return self.mark("full") * full + self.mark(rest) * (cells - full)


def screen(stream: TextIO, environ: Mapping[str, str]) -> Screen:
    """Return what *stream* can show.  Source of NO_COLOR: no-color.org."""
    encoding = (stream.encoding or "ascii").lower()
    has_unicode = encoding.startswith("utf")
    if not stream.isatty():
        columns = environ.get("COLUMNS", "")
        return Screen(int(columns) if columns.isdigit() and int(columns) else None, False, has_unicode)
    has_colour = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Screen(shutil.get_terminal_size().columns, has_colour, has_unicode)


def show(lines: Iterable[str]) -> None:
    """Print the lines."""
    print("\n".join(lines))


def here() -> Screen:
    """Return the screen that this process prints to."""
    return screen(sys.stdout, os.environ)


def age(since: str | None, now: datetime) -> str:
    """Return the time since an instant on the wire in its largest unit, as kubectl does; - when absent."""
    return "-" if not since else span(now - datetime.fromisoformat(since))


def span(length: timedelta) -> str:
    """Return a length of time in one unit: 95s, 12m, 30h, 5d."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 7200:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 172_800 else f"{seconds // 86_400}d"
