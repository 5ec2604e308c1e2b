"""Types of options: spans of time and moments."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from nuvom.cli.values import span_secs

if TYPE_CHECKING:
    from typing import Any


class Span(click.ParamType):
    """A span of time, ``30s``, ``5m``, ``2h``; the command gets seconds."""

    name = "span"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return span_secs(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType):
    """A moment in ISO 8601; without a zone it is UTC, as everywhere in Nuvom."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment as given."""
        try:
            return value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2030-12-31T08:00+01:00", param, ctx)
