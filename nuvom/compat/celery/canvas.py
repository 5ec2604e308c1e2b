"""Signatures of calls; what combines them is refused until Nuvom has workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from nuvom.compat.celery.context import applications
from nuvom.compat.celery.exceptions import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nuvom.compat.celery.result import AsyncResult, EagerResult

_UNTIL = (
    "Nuvom has no workflows yet. Let a task enqueue the next one, with current_job().enqueue() "
    "together with its own success, or with .delay()."
)


class Signature(dict[str, Any]):
    """A call that is not made yet: task, arguments and options, as plain data.

    It can be called, changed and passed as ``link``; it cannot be combined with others.
    """

    def __init__(
        self,
        task: Any = None,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **more: Any,
    ) -> None:
        if isinstance(task, dict):
            super().__init__(task)
            return
        more.pop("app", None)
        super().__init__(
            task=getattr(task, "name", task),
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            immutable=immutable,
        )

    # ---- what it holds --------------------------------------------------------------------

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self["task"])

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return tuple(self.get("args", ()))

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return dict(self.get("kwargs", {}))

    @property
    def options(self) -> dict[str, Any]:
        """Options of the call."""
        return dict(self.get("options", {}))

    @property
    def immutable(self) -> bool:
        """Whether it takes no more arguments, such as a result."""
        return bool(self.get("immutable", False))

    # ---- changes --------------------------------------------------------------------------

    def clone(
        self, args: Any = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """Return a copy with more arguments in front, and other options."""
        more = {} if self.immutable else dict(kwargs or {})
        return Signature(
            self.task,
            self.args if self.immutable else (*(args or ()), *self.args),
            {**self.kwargs, **more},
            {**self.options, **options},
            immutable=self.immutable,
        )

    partial = clone

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Change options in place; return the signature."""
        self["options"] = {**self.options, **options}
        if immutable is not None:
            self["immutable"] = immutable
        return self

    def link(self, callback: Any) -> Any:
        """Have another call follow the success of this one."""
        links = self.options.get("link", [])
        self.set(link=[*(links if isinstance(links, list) else [links]), callback])
        return callback

    # ---- calls ----------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Call the task with more arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Call the task with more arguments and options."""
        call = self.clone(args, kwargs, **options)
        app = applications.get()
        task = app.tasks.get(call.task)
        send = app.send_task if task is None else task.apply_async
        first = (call.task,) if task is None else ()
        result: AsyncResult = send(*first, call.args, call.kwargs, **call.options)
        return result

    def apply(
        self, args: Any = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EagerResult:
        """Run the task here and now."""
        call = self.clone(args, kwargs, **options)
        task = applications.get().tasks[call.task]
        result: EagerResult = task.apply(call.args, call.kwargs, **call.options)
        return result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task as a function, with more arguments."""
        call = self.clone(args, kwargs)
        return applications.get().tasks[call.task](*call.args, **call.kwargs)

    def __or__(self, other: object) -> NoReturn:
        raise NotSupported("a chain", _UNTIL)

    def __repr__(self) -> str:
        shown = [repr(one) for one in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"


def signature(task: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a signature from a task, its name, or the data of another one."""
    return task if isinstance(task, Signature) else Signature(task, *args, **kwargs)


subtask = maybe_signature = signature


def _refused(name: str) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise NotSupported(name, _UNTIL)

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Refuse: there are no workflows yet, so no ``{name}``."
    return refuse


chain, group, chord = _refused("chain"), _refused("group"), _refused("chord")
chunks, xmap, xstarmap = _refused("chunks"), _refused("map"), _refused("starmap")
