"""The goals of the bench, one by one: what is wanted, what was found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.bench.judge_cells import BY_NAME, Kind
from tests.bench.judge_results import Result, is_more, is_more_exposed, lower, quantile
from tests.bench.judge_runs import OURS

CALM = ("N1", "N2", "N2b", "N3", "N4", "N6", "N7", "N8", "N9", "N10", "N11")
FALSE_ROLLBACK, FALSE_ROLLBACK_FAST = 0.01, 0.02
UNHARMED = {"R11": "N2b", "R13": "N2", "R16": "N4", "R17": "N10", "R18": "N11"}
"""The equal version in the same weather; N1 for all others."""
DETECTED = ("R2", "R3", "R5", "R7b", "R11")
SLOWEST = {"R2": 12.0, "R3": 2.0, "R5": 4.0, "R7b": 6.0, "R11": 11.0}
"""Mean minutes to a rollback that the gate tolerates plus a fifth.  Source: research/rollouts.md 8.4."""
PROMOTES = {"R7b": 0.01, "R15": 0.01, "R16": 0.01, "R17": 0.01, "R18": 0.01}
"""Most that may be promoted of a version whose tokens take 1.5 times as long."""
PROMOTED = ("N1", "N3", "N4", "N6", "N8", "N9", "N10", "N11")
"""Equal versions with traffic enough to be promoted within the hour, mostly."""
NAMED = ("R14",)
"""Cells in which a peer does better at no more false alarms; the README names them."""
Results = Mapping[tuple[str, str], Result]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal and whether it is met."""

    name: str
    wanted: str
    found: str
    is_met: bool

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{'met   ' if self.is_met else 'MISSED'} {self.name}: wanted {self.wanted}, found {self.found}"
        )


def goals(results: Results, *, is_fast: bool) -> list[Goal]:
    """Return the goals of the cells that were run; the fast selection allows for its fewer runs.

    It does not compare harm: that asks for the equal cells of all weathers.
    """
    out = [*_calm(results, FALSE_ROLLBACK_FAST if is_fast else FALSE_ROLLBACK), *_gross(results)]
    out += [*_detected(results), *_unpromoted(results), *_promoted(results)]
    return out if is_fast else out + list(_harm(results))


def _mine(results: Results, cells: tuple[str, ...] | dict[str, float]) -> Iterator[Result]:
    return (results[cell, OURS] for cell in cells if (cell, OURS) in results)


def _peers(results: Results, cell: str) -> list[Result]:
    return [result for (where, judge), result in results.items() if where == cell and judge != OURS]


def _calm(results: Results, most: float) -> Iterator[Goal]:
    for mine in _mine(results, CALM):
        share = mine.rollback
        found = f"{_percent(share.value)} ({share.count} of {share.of}, at most {_percent(share.high)})"
        name = f"{mine.cell} false rollback"
        yield Goal(name, f"at most {_percent(most)}", found, share.value <= most)
        above = [peer.judge for peer in _peers(results, mine.cell) if is_more(share, peer.rollback)]
        yield Goal(name, "not above a peer's", f"above {', '.join(above) or 'none'}", not above)


def _gross(results: Results) -> Iterator[Goal]:
    for mine in _mine(results, ("R3",)):
        middle = quantile(mine.windows, 0.5)
        early = sum(windows <= 3 for windows in mine.windows) / mine.rollback.of
        yield Goal(
            "R3 windows to a rollback",
            "a median of at most 2",
            f"{middle}",
            middle is not None and middle <= 2,
        )
        yield Goal("R3 rolled back within 3 windows", "at least 99 %", _percent(early), early >= 0.99)


def _detected(results: Results) -> Iterator[Goal]:
    for mine in _mine(results, DETECTED):
        share = mine.rollback.value
        yield Goal(f"{mine.cell} rolled back", "at least 95 %", _percent(share), share >= 0.95)
        most = 1.2 * SLOWEST[mine.cell]
        mean = mine.mean_minutes
        found = "never" if mean is None else f"{mean:.1f} minutes"
        is_met = mean is not None and mean <= most
        yield Goal(f"{mine.cell} mean delay", f"at most {most:.1f} minutes", found, is_met)


def _unpromoted(results: Results) -> Iterator[Goal]:
    for mine in _mine(results, PROMOTES):
        most = PROMOTES[mine.cell]
        peers = [peer for peer in _peers(results, mine.cell) if peer.judge.endswith(" cal")]
        others = ", ".join(f"{peer.judge} {_percent(peer.promote.value)}" for peer in peers)
        found = f"{_percent(mine.promote.value)} ({others})"
        is_met = mine.promote.value <= most
        yield Goal(f"{mine.cell} promoted", f"at most {_percent(most)}", found, is_met)


def _promoted(results: Results) -> Iterator[Goal]:
    for mine in _mine(results, PROMOTED):
        share = mine.promote.value
        yield Goal(f"{mine.cell} promoted", "at least 95 %", _percent(share), share >= 0.95)


def _harm(results: Results) -> Iterator[Goal]:
    """Compare harm with every setting of a peer that cries wolf no more than the budget.

    That is tested in the equal cell of the same weather, at 95 %.  Harm is a larger share promoted, or
    a larger share of an hour's requests that the worse version answered.
    """
    for cell in BY_NAME.values():
        if cell.kind is not Kind.HARM or (cell.name, OURS) not in results:
            continue
        mine = results[cell.name, OURS]
        worse = []
        for peer in _peers(results, cell.name):
            calm = results.get((UNHARMED.get(cell.name, "N1"), peer.judge))
            if calm is None or lower(calm.rollback.count, calm.rollback.of, 0.05) > FALSE_ROLLBACK:
                continue
            if is_more(mine.promote, peer.promote) or is_more_exposed(mine, peer):
                worse.append(
                    f"{peer.judge}: promotes {_percent(peer.promote.value)} against "
                    f"{_percent(mine.promote.value)}, exposes {_percent(peer.exposed)} against "
                    f"{_percent(mine.exposed)}"
                )
        is_met = not worse or cell.name in NAMED
        found = "; ".join(worse) or "none"
        wanted = "no peer better at 1 % false alarms" + (", or named" if cell.name in NAMED else "")
        yield Goal(f"{cell.name} harm", wanted, found, is_met)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
