"""Makes a definition of a discovered task, so that it can be called without being imported.

What the manifest knows (signature and literal options) is enough to check and enqueue a call.
Options that the code computes, such as ``retries=settings.RETRIES``, are unknown here; hooks,
``retry_on`` and ``discard_on`` are never needed, since the worker reads them from the task.
The command line calls this.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any

from nuvom.core.options import TaskOptions, task_options
from nuvom.errors import InvalidTaskOption
from nuvom.registry.registry import TaskDefinition

if TYPE_CHECKING:
    from inspect import _ParameterKind as _Kind

    from nuvom.discovery.entries import TaskEntry

_IN_RECORD = frozenset(
    {
        "queue",
        "priority",
        "retries",
        "retry_delay_secs",
        "backoff",
        "max_retry_delay_secs",
        "jitter",
        "timeout_secs",
        "timeout_policy",
        "store_result",
        "result_ttl_secs",
        "tags",
    }
)


class _Described:
    """Stands in for the function: it has its signature, and does nothing."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.__signature__ = signature
        self.__annotations__: dict[str, Any] = {}  # they are text here, and name no class

    def __call__(self) -> None:
        """Refuse. Raises: TypeError."""
        raise TypeError("this only describes a task; a worker has its function")


def definition_of(entry: TaskEntry) -> TaskDefinition:
    """Return a definition with the name, the signature and the literal options of ``entry``.

    Its function is a stand-in; the registry must not have it.
    """
    described: Any = _Described(signature_of(entry.signature))
    return TaskDefinition(entry.name, described, _options(entry))


def unknown_options(entry: TaskEntry) -> list[str]:
    """Return the options that a job would carry, but only the task's own code knows."""
    return [name for name in entry.dynamic_options if name in _IN_RECORD or name == "**"]


def signature_of(text: str) -> inspect.Signature:
    """Return the signature that the manifest gives as text, such as ``(x: int, *, y=2)``.

    Annotations and defaults stay text; nothing is evaluated.
    Raises: SyntaxError: the text is no signature.
    """
    function = ast.parse(f"def _{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)  # noqa: S101  # by construction
    return inspect.Signature(list(_parameters(function.args)))


def _parameters(given: ast.arguments) -> list[inspect.Parameter]:
    kinds = inspect.Parameter
    positional = [*given.posonlyargs, *given.args]
    missing = [None] * (len(positional) - len(given.defaults))
    parameters = []
    for index, (arg, default) in enumerate(
        zip(positional, [*missing, *given.defaults], strict=True)
    ):
        only = index < len(given.posonlyargs)
        kind = kinds.POSITIONAL_ONLY if only else kinds.POSITIONAL_OR_KEYWORD
        parameters.append(_parameter(arg, kind, default))
    if given.vararg is not None:
        parameters.append(_parameter(given.vararg, kinds.VAR_POSITIONAL, None))
    for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parameters.append(_parameter(arg, kinds.KEYWORD_ONLY, default))
    if given.kwarg is not None:
        parameters.append(_parameter(given.kwarg, kinds.VAR_KEYWORD, None))
    return parameters


def _parameter(arg: ast.arg, kind: _Kind, default: ast.expr | None) -> inspect.Parameter:
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        arg.arg,
        kind,
        default=empty if default is None else _Text(ast.unparse(default)),
        # Not as the annotation: what reads annotations would try to resolve the text.
        annotation=empty if arg.annotation is None else _Text(ast.unparse(arg.annotation)),
    )


class _Text:
    """Source text that prints as itself, so that an error shows the signature as written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def annotation_text(parameter: inspect.Parameter) -> str:
    """Return a parameter's annotation as written, or ``""``."""
    note = parameter.annotation
    return note.text if isinstance(note, _Text) else ""


def _options(entry: TaskEntry) -> TaskOptions:
    known = {name: value for name, value in entry.options.items() if name in TaskOptions._fields}
    try:
        return task_options(known)
    except InvalidTaskOption as error:
        # The worker will refuse the task, too; say so before a job waits for ever.
        error.add_note(f"in {entry.place}")
        raise
