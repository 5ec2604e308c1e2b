"""The click classes that all commands share: common options, lazy groups, "did you mean".

Light on purpose: ``nuvom --help`` loads this and no command.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nuvom.cli.invocation import Invocation, without_major
from nuvom.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 88}
_COMMON_NOTE = (
    "Also: --json, --plain, -q, -v, --debug, --color WHEN, --project DIR (see nuvom --help)."
)


class Entry(NamedTuple):
    """A command that is not loaded yet.

    Attributes:
        target: ``module:attribute`` of the click command.
        summary: The one line that help shows.
    """

    target: str
    summary: str


class CommonOption(click.Option):
    """An option of every command; only the help of ``nuvom`` itself lists it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return what help prints."""
        return super().get_help_record(ctx) if ctx.parent is None else None


def _keep(apply: Callable[[Invocation, Any], None]) -> Callable[..., None]:
    def callback(ctx: click.Context, _: click.Parameter, value: object) -> None:
        # Given before the command's name or after it: only a given value counts.
        if value not in (None, False, 0):
            apply(ctx.ensure_object(Invocation), value)

    return callback


def _set(name: str) -> Callable[[Invocation, Any], None]:
    return lambda invocation, value: setattr(invocation.out, name, value)


def _common(*names: str, apply: Callable[[Invocation, Any], None], **attrs: Any) -> CommonOption:
    return CommonOption([*names], callback=_keep(apply), expose_value=False, **attrs)


def _common_options() -> list[click.Parameter]:
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    colors = click.Choice(["auto", "always", "never"])
    return [
        _common(
            "--json", is_flag=True, apply=_set("as_json"), help="One JSON object instead of text."
        ),
        _common(
            "--plain", is_flag=True, apply=_set("plain"), help="Tables as tab-separated lines."
        ),
        _common("-q", "--quiet", is_flag=True, apply=_set("quiet"), help="Data and errors only."),
        _common(
            "-v", "--verbose", count=True, apply=_set("verbosity"), help="Log more; -vv for all."
        ),
        _common(
            "--debug",
            is_flag=True,
            apply=lambda invocation, value: setattr(invocation, "debug", value),
            help="Show tracebacks of errors.",
        ),
        _common("--color", type=colors, apply=_set("color"), help="Use colour; default: auto."),
        _common(
            "--project",
            metavar="DIR",
            type=folder,
            apply=lambda invocation, value: setattr(invocation, "project", value),
            help="The project's folder, instead of the one around you.",
        ),
    ]


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", dict(_HELP))
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``--json=1`` apart, then parse."""
        return super().parse_args(ctx, without_major(args))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the options that every command has."""
        super().format_epilog(ctx, formatter)
        _note_common(formatter)


class Group(click.Group):
    """A group of commands, some of them not loaded yet.

    Args:
        lazy: Commands by name, in the order in which help shows them.
        default: The command that runs when none is named.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Entry] | None = None,
        default: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", dict(_HELP))
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})
        self.default = default
        self.params.extend(_common_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name in where none is given."""
        args = without_major(args)
        if not args and self.default is None and not ctx.resilient_parsing:
            args = self._of_nothing(ctx)
        is_bare = not _names_command(args) and not _asks_help(args)
        # A shell that completes asks for the names of the commands, not for the default one.
        if self.default is not None and is_bare and not ctx.resilient_parsing:
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _of_nothing(self, ctx: click.Context) -> list[str]:
        # Not click's own answer: its exit code differs from version to version.
        if ctx.parent is None:
            return ["--help"]
        known = ", ".join(self.list_commands(ctx))
        raise click.UsageError(f"{ctx.command_path} needs a command: {known}.", ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in the order in which they are written."""
        del ctx
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading its module now; None when there is none."""
        entry = self.lazy.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name, or say which they may have meant."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known) or f" There are: {', '.join(known)}."
            if len(known) == 1:
                hint = f' Did you mean "{ctx.command_path} {known[0]} {name}"?'
            raise click.UsageError(f'{ctx.command_path} has no command "{name}".{hint}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without loading those that are not loaded."""
        rows = [(name, self.summary(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the one line that describes a command."""
        if name in self.lazy:
            return self.lazy[name].summary
        command = super().get_command(ctx, name)
        return command.get_short_help_str(80) if command is not None else ""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the options that every command has."""
        super().format_epilog(ctx, formatter)
        if ctx.parent is not None:
            _note_common(formatter)


Group.group_class = Group


def load(entry: Entry) -> click.Command:
    """Return the click command that an entry stands for."""
    module, _, attribute = entry.target.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def _names_command(args: Sequence[str]) -> bool:
    return bool(args) and not args[0].startswith("-")


def _asks_help(args: Sequence[str]) -> bool:
    return bool(args) and args[0] in {"-h", "--help"}


def _note_common(formatter: click.HelpFormatter) -> None:
    formatter.write_paragraph()
    formatter.write_text(_COMMON_NOTE)
