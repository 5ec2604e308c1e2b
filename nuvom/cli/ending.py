"""How a command ends: each error becomes sentences, or a JSON object, and an exit code.

The only place that turns exceptions into exit codes. A traceback is shown with ``--debug``
alone; a reader who has seen enough (a broken pipe) is no error.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Abort, Exit

from nuvom.cli import exit_codes
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nuvom.cli.invocation import Invocation

ERROR_SCHEMA = "nuvom.error/1"
ERRORS_PAGE = "docs/errors.md"


def run(invocation: Invocation, action: Callable[[], Any]) -> int:
    """Run ``action`` and return the exit code; nothing escapes but ``SystemExit``."""
    try:
        code = _run(invocation, action)
        sys.stdout.flush()
        return code
    except OSError as error:
        if not _is_broken_pipe(error):
            raise
        _silence_stdout()
        return exit_codes.OK


def _run(invocation: Invocation, action: Callable[[], Any]) -> int:
    try:
        code = action()
        return code if isinstance(code, int) else exit_codes.OK
    except Exit as end:
        return end.exit_code
    except (Abort, KeyboardInterrupt, EOFError):
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        return _usage(invocation, error)
    except NuvomError as error:
        return _known(invocation, error)
    except OSError as error:
        if _is_broken_pipe(error):
            raise
        return _unexpected(invocation, error)
    except Exception as error:  # noqa: BLE001  # the outermost frame: a bug must not look like success
        return _unexpected(invocation, error)


def _known(invocation: Invocation, error: NuvomError) -> int:
    name = type(error).__name__
    code = exit_codes.exit_code(error)
    _report(invocation, error, (name, error.what, error.fix, code))
    return code


def _usage(invocation: Invocation, error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "nuvom"
    _report(
        invocation,
        error,
        ("Usage", error.format_message(), f"Read: {path} --help", exit_codes.USAGE),
    )
    return exit_codes.USAGE


def _unexpected(invocation: Invocation, error: Exception) -> int:
    text = f"{type(error).__name__}: {error}"
    fix = "This should not happen. Run the command with --debug to see where it comes from."
    _report(invocation, error, ("Unexpected", text, fix, exit_codes.FAILED))
    return exit_codes.FAILED


def _report(invocation: Invocation, error: BaseException, told: tuple[str, str, str, int]) -> None:
    name, what, fix, code = told
    page = f"{ERRORS_PAGE}#{name.lower()}"
    if invocation.debug:
        import traceback  # noqa: PLC0415  # only with --debug

        traceback.print_exception(error)
    if invocation.out.as_json:
        data = {"code": name, "message": what, "hint": fix, "docs": page, "exit": code}
        invocation.out.json(ERROR_SCHEMA, data)
    elif name == "Usage":
        invocation.out.error([("Error", what), ("Help", fix.removeprefix("Read: "))])
    else:
        invocation.out.error([("Error", what), ("Fix", fix), ("Docs", page)])


def _is_broken_pipe(error: OSError) -> bool:
    # Windows says EINVAL when the reader of a pipe has gone.
    return error.errno == errno.EPIPE or (sys.platform == "win32" and error.errno == errno.EINVAL)


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
