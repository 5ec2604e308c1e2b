"""Readers of what is typed: texts, spans of time, moments, limits of queues."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from nuvom.cli.values import span_secs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def text_callback(
    _ctx: click.Context, _param: click.Parameter, value: str | Sequence[str] | None
) -> str | tuple[str, ...] | None:
    """Give texts as UTF-8, also where the system says that they are ASCII (``LANG=C``)."""
    if value is None:
        return None
    return _as_utf8(value) if isinstance(value, str) else tuple(map(_as_utf8, value))


def _as_utf8(value: str) -> str:
    try:
        return os.fsencode(value).decode()
    except UnicodeError:  # neither
        return value


def span_option(*names: str, **attrs: Any) -> Callable[[Any], Any]:
    """Return an option that takes ``30s``, ``5m``, ``2h``; the command gets seconds."""
    return click.option(*names, metavar="SPAN", callback=_span, **attrs)


def moment_option(*names: str, **attrs: Any) -> Callable[[Any], Any]:
    """Return an option that takes a moment in ISO 8601; the command gets a ``datetime``.

    Without a zone it is UTC, as everywhere in Nuvom.
    """
    return click.option(*names, metavar="TIME", callback=_moment, **attrs)


def limit_option(*names: str, **attrs: Any) -> Callable[[Any], Any]:
    """Return an option that takes ``mail=2``, many times; the command gets a mapping."""
    return click.option(*names, metavar="QUEUE=N", multiple=True, callback=_limits, **attrs)


def _limits(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, int]:
    found = {}
    for value in values:
        queue, _, number = value.partition("=")
        if not queue or not number.isdecimal() or int(number) < 1:
            text = f"{value!r} is no limit of a queue; write mail=2."
            raise click.BadParameter(text, ctx, param)
        found[queue] = int(number)
    return found


def _span(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else span_secs(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from None


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        text = f"{value!r} is no time; write 2030-12-31T08:00+01:00."
        raise click.BadParameter(text, ctx, param) from None
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment
