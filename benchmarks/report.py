"""From figures to tables: medians, ratios, and Markdown for the pages and the terminal."""

from __future__ import annotations

import statistics
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets import FULL, NORMAL, POSTGRES, REDIS, targets

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
TABLE, HEADLINE, SERVERS = "benchmark", "headline", "servers"  # names of the marks in the pages
PAGE_COLUMNS = 120
SHORT = (FULL, NORMAL, "celery")  # rows of the README, beside the two fastest peers
ROUNDS_FOR_A_VERDICT = 4
COMPARED = {  # how a figure of two checkouts is called, and whether less of it is better
    "drain": ("drain, jobs/s", False),
    "cpu_us": ("CPU, us/job", True),
    "enqueue": ("enqueue, calls/s", False),
    "bulk": ("bulk, jobs/s", False),
    "pick_up_ms_median": ("pick-up, ms", True),
    "pick_up_ms_p95": ("pick-up, ms, p95", True),
    "result_ms_median": ("result, ms", True),
    "result_ms_p95": ("result, ms, p95", True),
    "start_secs": ("start, s", True),
    "reach_idle_per_cent": ("idle, per cent of a core", True),
    "instructions_per_job": ("instructions per job", True),
}
FIGURES = (
    "",
    "Drain",
    "of the fastest with a server",
    "of the loop",
    "CPU, us/job",
    "Enqueue",
    "Bulk",
    "Pick-up, ms (p95)",
    "Result, ms (p95)",
    "Start, s",
)

Found = dict[str, Any]
Table = list[tuple[str, ...]]


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds that have it."""
    names = {name for one in rounds for name in one}
    return {
        name: statistics.median([one[name] for one in rounds if name in one])
        for name in sorted(names)
    }


def fastest(found: Found, *, with_server: bool = True) -> Found | None:
    """Return the peer with a server, or without one, that drains most jobs in a second.

    What keeps no results does not count: it does less.
    """
    peers = [
        one
        for one in found["peers"]
        if "drain" in one["median"]
        and one.get("kind", "peer") == "peer"
        and one.get("keeps_results", True)
        and bool(one.get("server")) == with_server
    ]
    return max(peers, key=lambda one: one["median"]["drain"], default=None)


def as_text(found: Found) -> str:
    """Return everything, for a terminal."""
    broken = [f"BROKEN: {name}, {measure}: {text}" for name, measure, text in found["broken"]]
    return "\n".join([_page(found), "", *broken])


def publish(found: Found, drawing: str) -> list[str]:
    """Write the tables into the pages, between their marks, and the chart beside them.

    Returns: what was written.
    """
    if found.get("group") == SERVERS:
        _replace(ROOT / "README.md", SERVERS, on_servers(found))
        _replace(ROOT / "docs" / "performance.md", SERVERS, _page(found))
        return ["README.md", "docs/performance.md"]
    (ROOT / "docs" / "benchmark.svg").write_text(drawing, encoding="utf-8")
    _replace(ROOT / "README.md", HEADLINE, headline(found))
    _replace(ROOT / "README.md", TABLE, _readme(found))
    _replace(ROOT / "docs" / "performance.md", TABLE, _page(found))
    return ["README.md", "docs/performance.md", "docs/benchmark.svg"]


def headline(found: Found) -> str:
    """Return what the README says in words, above its table."""
    figures = next(one for one in found["peers"] if one["name"] == FULL)["median"]
    ratio = _ratio(figures["drain"], fastest(found))
    text = (
        "On its SQLite file, with everything flushed that it accepts and finishes, Nuvom drains "
        f"{ratio} times as many jobs per second as the fastest peer with a server, and an idle "
        f"worker starts a job after {figures['pick_up_ms_median']:.1f} ms. Measured on one machine "
        "in one run of `python3 dev.py bench`, which anyone can repeat; [the full "
        "results](docs/performance.md#figures) include the targets that were missed."
    )
    return textwrap.fill(text, PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def on_servers(found: Found) -> str:
    """Return what the README says in words about PostgreSQL and Redis."""
    rows = {one["name"]: one for one in found["peers"] if "drain" in one["median"]}
    told = []
    for name, place in ((POSTGRES, "PostgreSQL"), (REDIS, "Redis")):
        beside = [one for one in rows.values() if one["kind"] == "peer" and place in one["title"]]
        if name in rows and beside:
            best = max(beside, key=lambda one: float(one["median"]["drain"]))
            ours = float(f"{rows[name]['median']['drain']:.3g}")  # as the table shows both
            shown = {**best, "median": {"drain": float(f"{best['median']['drain']:.3g}")}}
            ratio, title = _ratio(ours, shown), best["title"]
            told.append(
                f"On {place}, a worker drains {ratio} times as many jobs per second as one of "
                f"{title.partition(',')[0]}, the fastest peer there."
            )
    told.append("See [the figures for servers](docs/performance.md#servers).")
    return textwrap.fill(
        " ".join(told), PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False
    )


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


def _replace(path: Path, name: str, text: str) -> None:
    before, _, after = between_marks(path.read_text(encoding="utf-8"), name)
    path.write_text(f"{before}{text}{after}", encoding="utf-8")


# ---- tables -------------------------------------------------------------------------------


def _readme(found: Found) -> str:
    best = [fastest(found, with_server=served) for served in (True, False)]
    names = {*SHORT, *(one["name"] for one in best if one)}
    rows = [one for one in found["peers"] if one["name"] in names and "drain" in one["median"]]
    rows.sort(key=lambda one: -one["median"]["drain"])
    table: Table = [("", "Drain, jobs/s", "Enqueue, calls/s", "Pick-up, ms", "A stored job")]
    for one in rows:
        figures = one["median"]
        name = f"**{one['title']}**" if one["kind"] == "nuvom" else one["title"]
        pick_up = _small(figures.get("pick_up_ms_median"))
        counts = _count(figures.get("drain")), _count(figures.get("enqueue"))
        table.append((name, *counts, pick_up, one["durability"]))
    chart = "![Jobs drained in a second](docs/benchmark.svg)"
    more = (
        "All peers, how they were measured, and more figures: [performance](docs/performance.md)."
    )
    return "\n".join([chart, "", *_table(table), "", _circumstances(found), more])


def _page(found: Found) -> str:
    tables = (_figures, _settings, before_and_after, _own, _targets)
    parts = [[_circumstances(found)], *(_table(one(found)) for one in tables)]
    servers = [
        f"{name}: " + ", ".join(f"`{key}={value}`" for key, value in settings.items())
        for name, settings in found["servers"].items()
    ]
    left_out = [f"{title} ({reason})" for title, reason in found["skipped"].items()]
    parts += [["Servers: " + "; ".join(servers) + "."]] if servers else []
    parts += [["Left out: " + "; ".join(left_out) + "."]] if left_out else []
    return "\n\n".join("\n".join(part) for part in parts if part)


def _table(rows: Table) -> list[str]:
    """Return a Markdown table whose columns are aligned; nothing where it has no rows."""
    if len(rows) < 2:  # noqa: PLR2004  # the first one is its head
        return []
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]


def _figures(found: Found) -> Table:
    table: Table = [FIGURES]
    loop = next((one for one in found["peers"] if one["name"] == "loop-full"), None)
    for one in found["peers"]:
        figures = _with_cpu(one["median"])
        drain, cpu = figures.get("drain"), figures.get("cpu_us")
        if one.get("server") and "start_secs" not in figures:
            cpu = None  # it has the start of the worker in it
        table.append(
            (
                one["title"],
                _count(drain),
                _ratio(drain, fastest(found)),
                _ratio(drain, loop),
                "-" if cpu is None else f"{cpu:,.1f}",
                _count(figures.get("enqueue")),
                _count(figures.get("bulk")),
                _spread(figures, "pick_up_ms"),
                _spread(figures, "result_ms"),
                _small(figures.get("start_secs")),
            )
        )
    return _without_empty(table)


def _without_empty(table: Table) -> Table:
    """Leave out the columns in which no row has a figure."""
    columns = list(zip(*table, strict=True))
    kept = [one for number, one in enumerate(columns) if not number or {*one[1:]} != {"-"}]
    return list(zip(*kept, strict=True))


def _settings(found: Found) -> Table:
    table: Table = [("", "Versions", "Worker", "A stored job")]
    for one in found["peers"]:
        versions = ", ".join(f"{name} {text}" for name, text in one["versions"].items())
        table.append((one["title"], versions, f"`{one['worker']}`", one["durability"]))
    return table


def _own(found: Found) -> Table:
    table: Table = [("Nuvom alone", "", "Figure")]
    for one in found["peers"]:
        for name, value in one["median"].items():
            if name.startswith(("reach_", "instructions")):
                words = name.removeprefix("reach_").replace("_", " ")
                told = _count(value) if value >= 10_000 else f"{value:,.4g}"  # noqa: PLR2004  # no exponent
                table.append((one["title"], words, told))
    return table


def _targets(found: Found) -> Table:
    rows = [(one.text, f"{one.value:.3g}", one.wanted, one.verdict) for one in targets(found)]
    return [("What Nuvom wants to reach", "Found", "Wanted", ""), *rows]


def before_and_after(found: Found) -> Table:
    """Return two checkouts' figures, the ratio of the rounds' medians, and what it says.

    Both checkouts took turns in each round. There is a verdict only where all of at least four
    rounds agree: by chance, one time in eight at most.
    """
    rows = {one["name"]: one for one in found["peers"]}
    table: Table = [("Two checkouts", "", "Before", "After", "Ratio", "Of the rounds", "")]
    for name, before in rows.items():
        after = rows.get(name.partition("@")[0])
        if after is None or after is before:
            continue
        sides = (map(_with_cpu, one["rounds"]) for one in (before, after))
        pairs = list(zip(*sides, strict=False))  # the last round may have been interrupted
        for figure, (words, is_less_better) in COMPARED.items():
            both = [(a[figure], b[figure]) for a, b in pairs if a.get(figure) and figure in b]
            if both:
                told = _compared(both, is_less_better=is_less_better)
                table.append((after["title"], words, *told))
    return table


def _compared(both: list[tuple[float, float]], *, is_less_better: bool) -> tuple[str, ...]:
    ratios = sorted(after / before for before, after in both)
    verdict = ""
    if len(ratios) >= ROUNDS_FOR_A_VERDICT and (ratios[0] > 1 or ratios[-1] < 1):
        verdict = "better" if (ratios[-1] < 1) == is_less_better else "worse"
    old, new = (f"{statistics.median(side):,.4g}" for side in zip(*both, strict=True))
    spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
    return old, new, f"{statistics.median(ratios):.3f}", spread, verdict


def _with_cpu(figures: dict[str, float]) -> dict[str, float]:
    """Add the CPU time of the worker for each job, its start taken off."""
    if "drain_cpu_secs" not in figures:
        return figures
    secs = figures["drain_cpu_secs"] - figures.get("start_cpu_secs", 0.0)
    return {**figures, "cpu_us": 1e6 * secs / figures["drain_jobs"]}


def _circumstances(found: Found) -> str:
    machine = found["machine"]
    when = (
        f"{found['at']} UTC, {found['rounds']} rounds, medians. {machine['processor']}, "
        f"{machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"SQLite {machine['sqlite']}, {machine['file_system']}, a flush takes "
        f"{machine['flush_ms']:.2f} ms."
    )
    told = [when]
    if found["is_preliminary"]:
        reason = "the machine was not quiet, or rounds or jobs were too few."
        told.insert(0, f"**Preliminary**: {reason}")
    if "against" in machine:
        told.append(f"Commit {machine['commit']} against {machine['against']}.")
    loads = "; ".join(
        f"load average {one.get('load_average', '?')}, others use "
        f"{one.get('others_use_cores', '?')} cores"
        for one in found["loads"]
    )
    return " ".join([*told, f"Before each round: {loads}."])


# ---- cells --------------------------------------------------------------------------------


def _ratio(value: float | None, beside: Found | None) -> str:
    base = None if beside is None else beside["median"].get("drain")
    if value is None or not base:
        return "-"
    ratio = value / base
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"  # noqa: PLR2004  # two digits tell enough


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    digits = max(0, len(str(int(value))) - 3)
    return f"{round(value, -digits):,.0f}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004  # three digits


def _spread(figures: dict[str, float], name: str) -> str:
    if f"{name}_median" not in figures:
        return "-"
    return f"{_small(figures[f'{name}_median'])} ({_small(figures[f'{name}_p95'])})"
