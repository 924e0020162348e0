"""Judge simulated rollouts: this judge beside Flagger's and Argo Rollouts' rules, from fixed seeds.

``python -m tests.bench.bench_judge`` from the root prints a table, then the goals one by one; the last
line is the summary, and the exit status is 1 when a goal is missed.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.bench.judge_cells import BY_NAME, CELLS, GATE, Cell, Kind
from tests.bench.judge_goals import goals
from tests.bench.judge_peers import Limits
from tests.bench.judge_results import HEADER, Result, line, summed
from tests.bench.judge_runs import BLOCK, Run, calibrate, judged
from tests.bench.judge_traffic import Traffic

RUNS, FAST_RUNS = 500, 300
FAST = "fast"


def main(arguments: list[str]) -> int:
    """Run the cells that are asked for and print what came out."""
    asked = _asked(arguments)
    is_fast = asked.cells == [FAST]
    cells = [BY_NAME[name] for name in (GATE if is_fast else asked.cells or BY_NAME)]
    runs = asked.runs or (FAST_RUNS if is_fast else RUNS)
    results = _results(cells, runs, asked.processes)
    found = goals({(result.cell, result.judge): result for result in results}, is_fast=is_fast)
    _print(cells, results)
    print()
    for goal in found:
        print(goal)
    missed = [goal for goal in found if not goal.is_met]
    if asked.json:
        rows = [{"goal": g.name, "wanted": g.wanted, "found": g.found, "met": g.is_met} for g in found]
        whole = {"runs": runs, "results": [result.to_json() for result in results], "goals": rows}
        asked.json.write_text(json.dumps(whole, indent=1) + "\n")
    met = f"{len(found) - len(missed)} of {len(found)} goals met"
    names = ", ".join(goal.name for goal in missed)
    print(f"bench-judge: {len(cells)} cells of {runs} runs, {met}" + (f"; missed: {names}" if missed else ""))
    return 1 if missed else 0


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, help=f"runs of each cell, {RUNS} by default")
    parser.add_argument(
        "--cells", nargs="*", default=[], choices=[*BY_NAME, FAST], metavar="CELL",
        help=f"cells by name, all by default; {FAST} is {' '.join(GATE)} with {FAST_RUNS} runs",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    return parser.parse_args(arguments)


def _results(cells: list[Cell], runs: int, processes: int) -> list[Result]:
    sizes = [min(BLOCK, runs - first) for first in range(0, runs, BLOCK)]
    traffics = list(dict.fromkeys(cell.traffic for cell in cells))
    with ProcessPoolExecutor(processes) as pool:
        tuned = dict(zip(traffics, pool.map(calibrate, traffics), strict=True))
        waiting = {
            cell.name: [
                pool.submit(judged, cell.name, number, size, tuned[cell.traffic])
                for number, size in enumerate(sizes)
            ]
            for cell in cells
        }
        out = []
        for cell in cells:
            blocks = [future.result() for future in waiting[cell.name]]
            out += _counted(cell, blocks)
            print(f"{cell.name} done", file=sys.stderr, flush=True)
    _print_limits(tuned)
    return out


def _counted(cell: Cell, blocks: Iterable[Mapping[str, list[Run]]]) -> list[Result]:
    by_judge: dict[str, list[Run]] = {}
    for block in blocks:
        for judge, runs in block.items():
            by_judge.setdefault(judge, []).extend(runs)
    wanted = "promote" if cell.kind is Kind.EQUAL else "rollback"
    return [summed(cell.name, judge, runs, wanted) for judge, runs in by_judge.items()]


def _print_limits(tuned: Mapping[Traffic, Mapping[str, Limits]]) -> None:
    print("tuned limits, with which a tool rolls back at most 1 % of equal versions in quiet weather:")
    for traffic, limits in tuned.items():
        kind = f"{traffic.rate:g}/s, pods differ by {100 * traffic.pod_spread:g} %"
        kind += ", latency depends on load" if traffic.is_coupled else ""
        for tool, one in limits.items():
            print(
                f"  {kind}: {tool} errors {100 * one.errors:.2f} %, "
                f"TTFT x{one.ttft:.2f}, TPOT x{one.tpot:.2f}"
            )
    print()


def _print(cells: list[Cell], results: list[Result]) -> None:
    print("minutes and requests: to a rollback where harm is judged, to a promotion elsewhere")
    print("exposed: share of an hour's requests that the new version answered\n")
    print(HEADER)
    for cell in cells:
        print(f"--- {cell.name}: {cell.what}")
        for result in results:
            if result.cell == cell.name:
                print(line(result))


if __name__ == "__main__":
    assert len(BY_NAME) == len(CELLS)
    sys.exit(main(sys.argv[1:]))
