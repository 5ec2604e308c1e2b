"""What all commands share: the options of a call, the command classes, and "did you mean".

Kept light: ``nuvom --help`` loads this module and no command.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nuvom.cli.output import Output
from nuvom.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nuvom.cli.processes import StopSignals

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 88}
_COMMON_NOTE = (
    "Also: --json, --plain, --no-header, -q, -v, --debug, --color WHEN, --project DIR "
    "(see nuvom --help)."
)


class Invocation:
    """One call of the command line; click carries it as the context's object.

    Attributes:
        out: Where the command writes its output.
        project: The folder given with ``--project``, or None.
        debug: Whether errors show their traceback.
        signals: The signal handlers of a command that stays in the foreground, else None.
    """

    def __init__(self) -> None:
        self.out = Output()
        self.project: Path | None = None
        self.debug = False
        self.signals: StopSignals | None = None


def template(name: str) -> str:
    """Return the text of a file in ``nuvom/cli/templates/``, such as ``project/tasks.py.txt``."""
    from importlib.resources import files  # noqa: PLC0415  # help writes no files

    return files("nuvom.cli").joinpath("templates", name).read_text(encoding="utf-8")


class Entry(NamedTuple):
    """A command that is not loaded yet.

    Attributes:
        target: ``module:attribute`` of the click command; the module is in ``nuvom.cli.commands``.
        summary: The one line that help shows.
    """

    target: str
    summary: str

    def load(self) -> click.Command:
        """Import the module and return the command."""
        module, _, attribute = self.target.partition(":")
        command: click.Command = getattr(import_module(f"nuvom.cli.commands.{module}"), attribute)
        return command


# ---- common options ---------------------------------------------------------------------


class CommonOption(click.Option):
    """An option that every command has; only the help of ``nuvom`` itself lists it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return what help prints."""
        return super().get_help_record(ctx) if ctx.parent is None else None


def _common(*names: str, target: str, **attrs: Any) -> CommonOption:
    def keep(ctx: click.Context, _: click.Parameter, value: object) -> None:
        # It may come before or after the command's name; only a given value counts.
        if value not in (None, False, 0):
            invocation = ctx.ensure_object(Invocation)
            owner = invocation if hasattr(invocation, target) else invocation.out
            setattr(owner, target, value)

    return CommonOption([*names], callback=keep, expose_value=False, **attrs)


def _common_options() -> list[click.Parameter]:
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    colors = click.Choice(["auto", "always", "never"])
    flag: dict[str, Any] = {"is_flag": True}
    return [
        _common("--json", target="as_json", help="Print one JSON object instead of text.", **flag),
        _common("--plain", target="plain", help="Print tables as tab-separated lines.", **flag),
        _common("--no-header", target="no_header", help="With --plain: no line of titles.", **flag),
        _common("-q", "--quiet", target="quiet", help="Print only data and errors.", **flag),
        _common("-v", "--verbose", target="verbosity", count=True, help="Log more; -vv: all."),
        _common("--debug", target="debug", help="Show the traceback of an error.", **flag),
        _common("--color", target="color", type=colors, help="When to use color; default: auto."),
        _common(
            "--project",
            target="project",
            metavar="DIR",
            type=folder,
            help="Use the project in DIR, not the one of the working directory.",
        ),
    ]


def wants_json(args: Sequence[str]) -> bool:
    """Return whether ``args`` ask for JSON, even if they are otherwise invalid."""
    return "--json" in (args[: args.index("--")] if "--" in args else args)


# ---- commands and groups ----------------------------------------------------------------

_pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", dict(_HELP))
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options that every command has."""
        super().format_epilog(ctx, formatter)
        if ctx.parent is not None:
            formatter.write_paragraph()
            formatter.write_text(_COMMON_NOTE)


def command(**attrs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a command; its first argument is the ``Invocation``."""
    make = click.command(**{"cls": Command, **attrs})
    return lambda function: make(_pass_invocation(function))


class Group(Command, click.Group):
    """A group of commands, which may be loaded lazily.

    Args:
        lazy: Commands by name, in the order of the help.
        default: The command that runs if none is named.
        implied: The command that is meant if the first word names none.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Entry] | None = None,
        default: str | None = None,
        implied: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})
        self.default = default
        self.implied = implied

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the name of a command if none is given."""
        if ctx.resilient_parsing:  # completion needs the names of the commands
            return super().parse_args(ctx, args)
        first = args[0] if args else "-"
        if self.implied is not None and first not in self.list_commands(ctx):
            if first not in ctx.help_option_names:
                args = [self.implied, *args]
            return super().parse_args(ctx, args)
        if self.default is not None:
            if first.startswith("-") and first not in ctx.help_option_names:
                args = [self.default, *args]
        elif not args and ctx.parent is None:
            args = ["--help"]
        elif not args:  # click's own exit code differs between versions
            known = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"{ctx.command_path} needs a command: {known}.", ctx)
        return super().parse_args(ctx, args)

    def command(self, *args: Any, **attrs: Any) -> Callable[[Callable[..., Any]], click.Command]:  # type: ignore[override]  # of commands alone
        """Turn a function into a command of the group; its first argument is the ``Invocation``."""
        make = super().command(*args, **attrs)
        return lambda function: make(_pass_invocation(function))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in definition order."""
        del ctx
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading its module if needed, or None if there is none."""
        entry = self.lazy.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else entry.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` name, or suggest which one the user meant."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known) or f" There are: {', '.join(known)}."
            raise click.UsageError(f'{ctx.command_path} has no command "{name}".{hint}', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without loading any."""
        rows = [(name, self.summary(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the one line that describes a command."""
        if name in self.lazy:
            return self.lazy[name].summary
        command = super().get_command(ctx, name)
        return command.get_short_help_str(80) if command is not None else ""


Group.group_class = Group
