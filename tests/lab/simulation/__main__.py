"""``python -m tests.lab.simulation``: one seed with its history, or many seeds."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.lab.simulation.run import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.simulation.run import Report


def main(argv: Sequence[str]) -> int:
    """Simulate, and print what was found; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    given = parser.parse_args(argv)
    reports = [simulate(seed) for seed in range(given.seed, given.seed + given.seeds)]
    bad = [report for report in reports if not report.is_valid]
    if given.seeds == 1:
        lines = [*_explained(reports[0]), str(reports[0])]
    else:
        lines = [*map(str, bad), f"{len(reports)} seeds, {len(bad)} with findings"]
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if bad else 0


def _explained(report: Report) -> Iterator[str]:
    for one in report.events:
        details = {word: value for word, value in one.items() if word not in ("at", "event")}
        yield f"{one['at']:10.4f}  {one['event']:<15}{details}"
    for word, jobs in {**vars(report.findings), "early": report.early}.items():
        if jobs:
            yield f"{word}: {', '.join(jobs)}"
    if report.crash:
        yield report.crash


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
