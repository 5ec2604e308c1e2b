"""Builds a definition for a discovered task, so that jobs can be enqueued without an import.

The signature and literal options in the manifest are enough to check and enqueue a call. Options
that the code computes, such as ``retries=settings.RETRIES``, are unknown here. Hooks, ``retry_on``
and ``discard_on`` are not needed, since the worker reads them from the task. The command line
calls this.
"""

from __future__ import annotations

import ast
import inspect
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from nuvom.core.options import TaskOptions, known_options, task_options
from nuvom.errors import InvalidTaskOption
from nuvom.registry.registry import TaskDefinition
from nuvom.registry.signature import SourceText

if TYPE_CHECKING:
    from nuvom.discovery.entries import TaskEntry

_UNPACKED = "**"  # as the parser has it, which is not loaded here
_OF_SCHEDULES = ("name", "schedule", "timezone_name")
_ONLY_IN_CODE = frozenset(
    {
        *("retry_on", "discard_on", "before_job", "after_job", "on_error"),
        *("isolation", "description", "category", "aliases", "schedule", "timezone_name"),
        "redact",
    }
)


class _Described:
    """Stand-in for the function: has its signature, but cannot be called."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.__signature__ = signature
        self.__annotations__: dict[str, Any] = {}  # text here, not classes

    def __call__(self) -> None:
        """Refuse. Raises: TypeError."""
        raise TypeError("this only describes a task; a worker has its function")


def definition_of(entry: TaskEntry) -> TaskDefinition:
    """Return a definition with the name, the signature and the literal options of ``entry``.

    Its function is a stand-in, so the definition must never be registered.
    """
    described = stand_in(entry.signature)
    known = {name: value for name, value in entry.options.items() if name in TaskOptions._fields}
    try:
        return TaskDefinition(
            entry.name, described, task_options(known), given=known_options(known)
        )
    except InvalidTaskOption as error:
        # The worker will refuse the task too, so fail now: a job would wait forever.
        error.add_note(f"in {entry.place}")
        raise


def stand_in(signature: str) -> Any:  # noqa: ANN401  # in place of a function
    """Return what has a signature, given as text, but cannot be called."""
    return _Described(signature_of(signature))


def unknown_options(entry: TaskEntry) -> list[str]:
    """Return the options that a job would carry but that only the task's code can compute.

    For options that have no names here, such as those of an unpacked mapping: ``more options``.
    """
    carried = {_UNPACKED, *TaskOptions._fields} - _ONLY_IN_CODE
    found = [name for name in entry.dynamic_options if name in carried]
    return ["more options" if name == _UNPACKED else name for name in found]


def unread_schedule(entry: TaskEntry) -> str:
    """Return what only the task's code can tell about its schedule and its jobs, or ``""``.

    A scheduler does not run that code, so it cannot make such a schedule.
    """
    if not entry.has_schedule:
        return ""
    own = [name for name in _OF_SCHEDULES if name in entry.dynamic_options]
    return ", ".join((*own, *unknown_options(entry)))


def signature_of(text: str) -> inspect.Signature:
    """Parse a signature from the manifest, such as ``(x: int, *, y=2)``.

    Annotations and defaults stay text; nothing is evaluated.
    Raises: SyntaxError: the text is not a signature.
    """
    function = ast.parse(f"def _{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)  # noqa: S101  # by construction
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    parameters = [
        _parameter(arg, Parameter.POSITIONAL_OR_KEYWORD, default)
        for arg, default in zip(positional, defaults, strict=True)
    ]
    for place in range(len(given.posonlyargs)):
        parameters[place] = parameters[place].replace(kind=Parameter.POSITIONAL_ONLY)
    if given.vararg is not None:
        parameters.append(_parameter(given.vararg, Parameter.VAR_POSITIONAL))
    for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parameters.append(_parameter(arg, Parameter.KEYWORD_ONLY, default))
    if given.kwarg is not None:
        parameters.append(_parameter(given.kwarg, Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


def _parameter(arg: ast.arg, kind: Any, default: ast.expr | None = None) -> Parameter:  # noqa: ANN401  # inspect's own enum is private
    return Parameter(arg.arg, kind, default=_written(default), annotation=_written(arg.annotation))


def _written(expression: ast.expr | None) -> object:
    # Not a plain string: code that reads annotations would try to resolve it.
    return Parameter.empty if expression is None else SourceText(ast.unparse(expression))


def annotation_text(parameter: Parameter) -> str:
    """Return a parameter's annotation as written, or ``""``."""
    note = parameter.annotation
    return note.text if isinstance(note, SourceText) else ""
