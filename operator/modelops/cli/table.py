"""Lay rows out in columns that fit the screen: the least needed columns go first, then long cells are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelops.cli.screen import BOLD, Screen

GAP = "  "
LEAST_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    keep: int = 9
    """Columns with less are left out sooner on a narrow screen; 9 stays."""
    is_right: bool = False
    is_optional: bool = False
    """Whether it is left out when no row says anything in it."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], screen: Screen) -> list[str]:
    """Return the head and the rows as lines."""
    kept = _filled(columns, rows)
    widths = [max(len(columns[i].title), *(len(row[i]) for row in rows)) for i in range(len(columns))]
    if screen.width is not None:
        kept = _fitting(columns, widths, kept, screen.width)
        _shrink(widths, kept, screen.width)
    head = _line([screen.paint(_pad(columns[i].title, widths[i], columns[i]), BOLD) for i in kept])
    return [head, *(_line([_cell(row[i], widths[i], columns[i], screen) for i in kept]) for row in rows)]


def _filled(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the columns that say something."""
    return [
        i
        for i, column in enumerate(columns)
        if not column.is_optional or any(row[i] not in ("", "-") for row in rows)
    ]


def _fitting(columns: Sequence[Column], widths: Sequence[int], kept: list[int], width: int) -> list[int]:
    while len(kept) > 1 and _total(widths, kept) > width:
        least = min(kept, key=lambda i: (columns[i].keep, -i))
        if columns[least].keep >= 9:
            break
        kept = [i for i in kept if i != least]
    return kept


def _shrink(widths: list[int], kept: Sequence[int], width: int) -> None:
    """Take letters from the widest column until the line fits."""
    while _total(widths, kept) > width:
        widest = max(kept, key=lambda i: widths[i])
        if widths[widest] <= LEAST_WIDTH:
            return
        widths[widest] -= 1


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1)


def _cell(text: str, width: int, column: Column, screen: Screen) -> str:
    cut = text if len(text) <= width else text[: width - 1] + screen.mark("cut")
    return screen.word(text, _pad(cut, width, column))


def _pad(text: str, width: int, column: Column) -> str:
    return text.rjust(width) if column.is_right else text.ljust(width)


def _line(cells: Sequence[str]) -> str:
    return GAP.join(cells).rstrip()
