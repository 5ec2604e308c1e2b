"""From figures to tables: medians, ratios, text for a terminal, Markdown for the pages."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets import FULL, targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parent.parent
TABLE, HEADLINE = "benchmark", "headline"  # names of the marks in the pages
PAGE_COLUMNS = 120
SHORT = ("nuvom", "loop")  # kinds that the README tells besides the peers
HEADS = (
    "",
    "drain",
    "x server",
    "of loop",
    "CPU us/job",
    "enqueue",
    "bulk",
    "pick-up ms",
    "p95",
    "result ms",
    "p95",
    "start s",
)

Found = dict[str, Any]


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds that have it."""
    names = {name for one in rounds for name in one}
    return {
        name: statistics.median([one[name] for one in rounds if name in one])
        for name in sorted(names)
    }


def fastest_with_a_server(found: Found) -> Found | None:
    """Return the peer with a server that drains most jobs in a second."""
    served = [one for one in found["peers"] if one.get("server") and "drain" in one["median"]]
    return max(served, key=lambda one: one["median"]["drain"], default=None)


def as_text(found: Found) -> str:
    """Return the whole table, for a terminal."""
    rows = [HEADS, *(_row(found, one) for one in found["peers"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*_header(found), "", *lines, "", *_reached(found), "", *_footnotes(found)])


def publish(found: Found, drawing: str) -> None:
    """Write the tables into the pages, between their marks, and the chart beside them."""
    (ROOT / "docs" / "benchmark.svg").write_text(drawing, encoding="utf-8")
    _replace(ROOT / "README.md", HEADLINE, headline(found))
    _replace(ROOT / "README.md", TABLE, _readme(found))
    _replace(ROOT / "docs" / "performance.md", TABLE, _page(found))


def headline(found: Found) -> str:
    """Return what the README says in words, above its table."""
    figures = next(one for one in found["peers"] if one["name"] == FULL)["median"]
    ratio = _ratio(figures["drain"], fastest_with_a_server(found))
    text = (
        "With a flush for all that it accepts and finishes, Nuvom on its SQLite file drains "
        f"{ratio} times as many jobs in a second as the fastest peer with a server; an idle worker "
        f"has a job after {figures['pick_up_ms_median']:.1f} ms. Measured on one machine, in one "
        "run, by `python3 dev.py bench`, which anybody can repeat; [what was not "
        "reached](docs/performance.md#figures) is told as well:"
    )
    return textwrap.fill(text, PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def between_marks(page: str, name: str) -> tuple[str, str, str]:
    """Return a page's text before, between and after the marks of this name.

    Raises: ValueError: they are not there.
    """
    start, end = f"<!-- {name}:start -->\n", f"\n<!-- {name}:end -->"
    before, found_start, rest = page.partition(start)
    inside, found_end, after = rest.partition(end)
    if not found_start or not found_end:
        raise ValueError(f"the marks {start.strip()} and {end.strip()} are missing")
    return before + start, inside, end + after


def _reached(found: Found) -> Iterable[str]:
    for one in targets(found):
        value = "-" if one.value is None else f"{one.value:.3g}"
        yield f"{one.verdict:>12}  {value:>6} ({one.wanted}): {one.text}"


def _row(found: Found, one: Found) -> tuple[str, ...]:
    figures = one["median"]
    return (
        one["title"],
        _count(figures.get("drain")),
        _ratio(figures.get("drain"), fastest_with_a_server(found)),
        _ratio(figures.get("drain"), _loop(found)),
        _micro(figures),
        _count(figures.get("enqueue")),
        _count(figures.get("bulk")),
        _small(figures.get("pick_up_ms_median")),
        _small(figures.get("pick_up_ms_p95")),
        _small(figures.get("result_ms_median")),
        _small(figures.get("result_ms_p95")),
        _small(figures.get("start_secs")),
    )


def _loop(found: Found) -> Found | None:
    return next((one for one in found["peers"] if one["name"] == "loop-full"), None)


def _ratio(value: float | None, beside: Found | None) -> str:
    base = None if beside is None else beside["median"].get("drain")
    if value is None or not base:
        return "-"
    ratio = value / base
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"  # noqa: PLR2004  # two digits tell enough


def _micro(figures: dict[str, float]) -> str:
    """CPU time of the worker for each job, its start taken off."""
    if "drain_cpu_secs" not in figures:
        return "-"
    secs = figures["drain_cpu_secs"] - figures.get("start_cpu_secs", 0.0)
    return f"{1e6 * secs / figures['drain_jobs']:,.1f}"


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    digits = max(0, len(str(int(value))) - 3)
    return f"{round(value, -digits):,.0f}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004  # three digits


def _header(found: Found) -> list[str]:
    machine = found["machine"]
    when = (
        f"{found['at']} UTC, {found['rounds']} rounds, medians. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"SQLite {machine['sqlite']}, {machine['file_system']}, a flush takes "
        f"{machine['flush_ms']:.2f} ms."
    )
    loads = "; ".join(
        f"load average {one.get('load_average', '?')}, others use "
        f"{one.get('others_use_cores', '?')} cores"
        for one in found["loads"]
    )
    lines = [when, f"Before each round: {loads}."]
    if found["is_preliminary"]:
        lines.append("PRELIMINARY: the machine was not quiet, or rounds or jobs were too few.")
    return lines


def _footnotes(found: Found) -> Iterable[str]:
    yield "Drain, enqueue and bulk are jobs for each second."
    for one in found["peers"]:
        versions = ", ".join(f"{name} {text}" for name, text in one["versions"].items())
        yield f"{one['title']}: {versions}; {one['worker']}; {one['durability']}"
        yield from (
            f"  {name}: {value:,.4g}"
            for name, value in one["median"].items()
            if name.startswith(("reach_", "instructions"))
        )
    for name, settings in found["servers"].items():
        yield f"{name}: " + ", ".join(f"{key}={value or '-'}" for key, value in settings.items())
    for title, reason in found["skipped"].items():
        yield f"SKIPPED: {title}: {reason}"
    for name, measure, message in found["broken"]:
        yield f"BROKEN: {name}, {measure}: {message.splitlines()[0]}"


# ---- pages --------------------------------------------------------------------------------


def _readme(found: Found) -> str:
    rows = [one for one in found["peers"] if "drain" in one["median"]]
    rows.sort(key=lambda one: -one["median"]["drain"])
    lines = [
        "![Jobs drained in a second](docs/benchmark.svg)",
        "",
        "| | Drain, jobs/s | Enqueue, calls/s | Pick-up, ms | A stored job |",
        "|---|---|---|---|---|",
    ]
    for one in rows:
        figures = one["median"]
        cells = (
            _count(figures.get("drain")),
            _count(figures.get("enqueue")),
            _small(figures.get("pick_up_ms_median")),
            one["durability"],
        )
        name = f"**{one['title']}**" if one["kind"] == "nuvom" else one["title"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    more = "what was measured and how, and more figures: [performance](docs/performance.md)."
    return "\n".join([*lines, "", *_sentences(found), more[0].upper() + more[1:]])


def _page(found: Found) -> str:
    heads = (
        "| | Drain | of the fastest with a server | of the loop | CPU, us/job | Enqueue | Bulk "
        "| Pick-up, ms (p95) | Result, ms (p95) | Start, s |"
    )
    lines = [*_sentences(found), "", heads, "|" + "---|" * 10]
    for one in found["peers"]:
        row = _row(found, one)
        cells = [*row[1:7], f"{row[7]} ({row[8]})", f"{row[9]} ({row[10]})", row[11]]
        cells = ["-" if cell == "- (-)" else cell for cell in cells]
        lines.append(f"| {row[0]} | " + " | ".join(cells) + " |")
    lines += ["", "| | Versions | Worker | A stored job |", "|---|---|---|---|"]
    for one in found["peers"]:
        versions = ", ".join(f"{name} {text}" for name, text in one["versions"].items())
        lines.append(f"| {one['title']} | {versions} | `{one['worker']}` | {one['durability']} |")
    own = [line for one in found["peers"] for line in _own_lines(one)]
    if own:
        lines += ["", "| Nuvom alone | Figure | |", "|---|---|---|", *own]
    lines += ["", "| What Nuvom wants to reach | Found | Wanted | |", "|---|---|---|---|"]
    lines += [
        f"| {one.text} | {one.value:.3g} | {one.wanted} | {one.verdict} |"
        for one in targets(found)
        if one.value is not None
    ]
    servers = [
        f"{name}: " + ", ".join(f"`{key}={value}`" for key, value in settings.items())
        for name, settings in found["servers"].items()
    ]
    if servers:
        lines += ["", "Servers: " + "; ".join(servers) + "."]
    left_out = [f"{title} ({reason})" for title, reason in found["skipped"].items()]
    if left_out:
        lines += ["", "Left out: " + "; ".join(left_out) + "."]
    return "\n".join(lines)


def _own_lines(one: Found) -> Iterable[str]:
    for name, value in one["median"].items():
        if name.startswith(("reach_", "instructions")):
            words = name.removeprefix("reach_").replace("_", " ")
            yield f"| {one['title']} | {words} | {value:,.4g} |"


def _sentences(found: Found) -> list[str]:
    when, loads = _header(found)[:2]
    told = [f"{when} {loads}"]
    if found["is_preliminary"]:
        told.insert(0, "**Preliminary**: other programs ran on the machine at the same time.")
    return [" ".join(told)]


def _replace(path: Path, name: str, text: str) -> None:
    before, _, after = between_marks(path.read_text(encoding="utf-8"), name)
    path.write_text(f"{before}{text}{after}", encoding="utf-8")
