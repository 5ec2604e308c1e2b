"""The points of a call at which CPython can interrupt it, and what a law does there.

CPython delivers a signal's exception (Ctrl-C) or one that another thread asked for (a time limit)
between two instructions: after a call of C code, at the start of a function, at a backward jump.
A trace function counts these points in the code under test. At one of them it has an exception
delivered, by CPython itself, or stands still while something else happens.

Source: ``CHECK_EVAL_BREAKER`` in CPython's ``Python/ceval.c``.
"""

from __future__ import annotations

import ctypes
import dis
import os
import sys
import threading
from collections import Counter
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import nuvom

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(nuvom.__file__)), "")
_OURS = (
    os.path.join(_PACKAGE, "testing", ""),
    os.path.join(os.path.dirname(os.path.abspath(__file__)), ""),
)
_POINTS = frozenset(
    code
    for name, code in dis.opmap.items()
    if name in ("CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD")
    or name.startswith("POP_JUMP_BACKWARD")  # of Python 3.11
)
_RESUME = dis.opmap["RESUME"]
_set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_exception.argtypes = [ctypes.c_ulong, ctypes.py_object]


class Interruption(BaseException):
    """What a call under test is interrupted with."""


class _Deliverer:
    """``deliverer[exception]`` asks for an exception in this thread, at its next point.

    A subscript, because the instruction for it is no point itself: a call would have the
    exception raised in the trace function.
    """

    def __init__(self) -> None:
        ask: Any = partial(_set_exception, threading.get_ident())
        self._asker = type("_Asker", (), {"__getitem__": staticmethod(ask)})()

    def __call__(self) -> Any:
        return self._asker


class Points:
    """Walks through the points of calls, one by one.

    Args:
        packages: Folders of the code under test; Nuvom itself always is.
        passes: How often an instruction counts that is passed again and again; None: always.

    Attributes:
        count: How many points the last call has had.
        place: Where it was at the one asked for: function, file and line.
    """

    def __init__(self, *packages: str, passes: int | None = None) -> None:
        self._packages = (_PACKAGE, *(os.path.join(one, "") for one in packages))
        self._passes = inf if passes is None else passes
        self.count = 0
        self.place = ""

    def interrupt(self, call: Callable[[], object], number: int) -> bool:
        """Make a call that is interrupted at point ``number``, counted from 1; 0 is none.

        Returns: whether the exception came out of it: False also when the call has fewer points.
        Raises: what the call raises by itself.
        """
        asker, report = _Deliverer()(), sys.unraisablehook
        # It may come in a weak reference's callback, which nothing comes out of.
        sys.unraisablehook = lambda one: None if one.exc_type is Interruption else report(one)
        try:
            self._walk(call, number, asker)
            for _ in range(2):  # a backward jump: an exception that is still on its way comes here
                pass
        except Interruption:
            return True
        finally:
            sys.unraisablehook = report
        return False

    def stop_at(self, call: Callable[[], object], number: int, pause: Callable[[], None]) -> None:
        """Make a call, and ``pause()`` in its midst, at point ``number``, counted from 1.

        Raises: what the call raises.
        """
        self._walk(call, number, pause)

    def _walk(self, call: Callable[[], object], number: int, act: Any) -> None:
        walk = _Walk(self._packages, self._passes, number, act)
        before = sys.gettrace()
        sys.settrace(walk.at_call)
        try:
            call()
        finally:  # first what cannot be interrupted
            self.count = walk.count
            self.place = walk.place or self.place
            sys.settrace(before)


class _Walk:
    """One traced call.

    Args:
        act: What is done at the point; not callable: what an interruption is asked of.
    """

    def __init__(self, packages: tuple[str, ...], passes: float, number: int, act: Any) -> None:
        self._packages = packages
        self._passes = passes
        self._number = number
        self._act = act
        self._is_pause = callable(act)
        self._is_due = False  # the point's instruction has to be executed before the pause
        self._passed: Counter[tuple[int, int]] = Counter()
        self.count = 0
        self.place = ""

    def at_call(self, frame: FrameType, _event: str, _: object) -> Any:
        if not self._is_tested(frame.f_code.co_filename) or _is_finalizer(frame):
            return None
        frame.f_trace = self._at_instruction
        frame.f_trace_opcodes = True
        if self._is_due or (_begins(frame) and self._is_asked_for(frame)):
            sys.settrace(None)
            if not self._is_pause:
                raise Interruption  # as if delivered at the function's start
            self._act()
        return self._at_instruction

    def _at_instruction(self, frame: FrameType, event: str, _: object) -> Any:
        is_point = event == "opcode" and frame.f_code.co_code[frame.f_lasti] in _POINTS
        if self._is_due and event == "opcode":
            sys.settrace(None)
            self._act()
        elif is_point and self._is_asked_for(frame):
            self._is_due = self._is_pause
            if not self._is_pause:
                sys.settrace(None)
                self._act[Interruption]
        return self._at_instruction

    def _is_asked_for(self, frame: FrameType) -> bool:
        place = id(frame.f_code), frame.f_lasti
        self._passed[place] += 1
        if self._passed[place] > self._passes:
            return False
        self.count += 1
        if self.count != self._number:
            return False
        self.place = f"{frame.f_code.co_qualname}, {_shown(frame)}"
        return True

    def _is_tested(self, file: str) -> bool:
        return file.startswith(self._packages) and not file.startswith(_OURS)


def folders_of(tested: object) -> list[str]:
    """Return where the code of a backend is: its packages, or the folder of a single module."""
    names = {cls.__module__ for cls in type(tested).__mro__}
    found: dict[str, None] = {}
    for name in sorted(names - sys.stdlib_module_names):
        package = sys.modules[name.partition(".")[0]]
        file = getattr(sys.modules[name], "__file__", None)
        found.update(dict.fromkeys(getattr(package, "__path__", ())))
        found.update(dict.fromkeys([os.path.dirname(file)] if file else ()))
    return list(found)


def _begins(frame: FrameType) -> bool:
    """Tell a function's start from a generator that goes on, or is closed."""
    code, at = frame.f_code.co_code, frame.f_lasti
    return code[at] == _RESUME and code[at + 1] == 0


def _is_finalizer(frame: FrameType) -> bool:
    """Tell code that no exception can come out of: Python reports it and goes on."""
    caller = frame.f_back
    return "__del__" in (frame.f_code.co_name, caller and caller.f_code.co_name)


def _shown(frame: FrameType) -> str:
    file = frame.f_code.co_filename.removeprefix(_PACKAGE)
    return f"{file}:{frame.f_lineno or frame.f_code.co_firstlineno}"
