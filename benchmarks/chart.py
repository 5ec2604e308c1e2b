"""Draws bars as SVG, readable on a light page and on a dark one."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 820, 210, 110
BAR, GAP, TOP = 18, 6, 44
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .nuvom { fill: #0969da } .peer { fill: #8c959f } .loop { fill: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .nuvom { fill: #4493f8 } .peer { fill: #6e7681 } .loop { fill: #3d444d }
  }
"""


def drain(found: dict[str, Any]) -> str:
    """Return a chart of the drains, the fastest on top, on a linear scale."""
    rows = [one for one in found["peers"] if "drain" in one["median"]]
    rows.sort(key=lambda one: -one["median"]["drain"])
    largest = max((one["median"]["drain"] for one in rows), default=1.0)
    height = TOP + len(rows) * (BAR + GAP) + GAP
    title = "Jobs that one worker process drains in a second, results stored"
    if found["is_preliminary"]:
        title += " (preliminary)"
    bars = [_bar(one, number, largest) for number, one in enumerate(rows)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="8" y="24">{escape(title)}</text>',
            *bars,
            "</svg>",
            "",
        ]
    )


def _bar(one: dict[str, Any], number: int, largest: float) -> str:
    value = one["median"]["drain"]
    y = TOP + number * (BAR + GAP)
    width = max(1.0, (WIDTH - LEFT - RIGHT) * value / largest)
    base = y + BAR - 5
    return (
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">{escape(one["title"])}</text>'
        f'<rect class="{one["kind"]}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{base}">{value:,.0f}</text>'
    )
