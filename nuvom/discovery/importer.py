"""Imports task modules safely: they may raise anything, take too long, or exit the process.

Each module is logged before its import, because nothing could name a module that has exited the
process. For a slow module the log shows its stack. Only the main thread waits for the import to
finish: other threads have work to do and stop waiting after a time limit.
"""

from __future__ import annotations

import importlib
import logging
import signal
import threading
from typing import TYPE_CHECKING

from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.guard import AttemptClosed
from nuvom.execution.failures import current_frames, stack_of
from nuvom.log import get_logger, log_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from nuvom.core.clock import Clock

NAMED_SECS = 3.0
LIMIT_SECS = 10.0

_LOG = get_logger("nuvom.worker")


class StillImporting(Exception):  # noqa: N818  # not an error in the module
    """A module's import is still running.

    Attributes:
        ended: Set when the import ends, whether it succeeds or fails.
    """

    def __init__(self, ended: threading.Event, secs: float) -> None:
        super().__init__(f"it is still being imported after {secs:g} s")
        self.ended = ended


class Importer:
    """Imports modules for one worker.

    Args:
        named_secs: How long an import may run before the log shows where it is.
        limit_secs: How long threads other than the main thread wait for an import.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        named_secs: float = NAMED_SECS,
        limit_secs: float = LIMIT_SECS,
    ) -> None:
        self._clock = clock
        self._named_secs = named_secs
        self._limit_secs = limit_secs
        self._under_way: dict[str, _Import] = {}

    def load(self, module: str) -> ModuleType:
        """Return a module, importing it if needed.

        A call from the main thread imports the module right there, since its code may require
        the main thread. Other calls use a separate thread and abandon it after the time limit.
        Raises: StillImporting: the time limit has passed; or whatever the module raises.
        """
        one = self._under_way.get(module)
        is_new = one is None
        if one is None:
            one = self._under_way[module] = _Import(module)
            text = f"importing the module {module}"
            log_event(_LOG, logging.INFO, "module.import", text)
        if is_new and threading.current_thread() is threading.main_thread():
            _in_background(self._watch, one)
            one.run()
        elif is_new:
            _in_background(one.run)
            self._watch(one)
            if not self._clock.wait(one.ended, self._limit_secs - self._named_secs):
                raise StillImporting(one.ended, self._limit_secs)
        elif not one.ended.is_set():
            raise StillImporting(one.ended, self._limit_secs)
        del self._under_way[module]
        return one.outcome()

    def _watch(self, one: _Import) -> None:
        if self._clock.wait(one.ended, self._named_secs):
            return
        frame = current_frames().get(one.ident)
        stack = "" if frame is None else stack_of(frame)
        text = f"the module {one.module} takes long to import; it is at:\n{stack}"
        log_event(_LOG, logging.WARNING, "module.slow_import", text)


class _Import:
    """One import.

    Attributes:
        ident: Identifier of the thread that runs the import.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.ident = 0
        self.ended = threading.Event()
        self._found: ModuleType | BaseException | None = None

    def run(self) -> None:
        self.ident = threading.get_ident()
        # The module may be newer than Python's cached listing of its folder.
        importlib.invalidate_caches()
        try:
            self._found = importlib.import_module(self.module)
        except BaseException as error:  # noqa: BLE001  # user code: ``outcome`` raises it
            self._found = error
        finally:
            self.ended.set()

    def outcome(self) -> ModuleType:
        found, self._found = self._found, None
        if found is None or isinstance(found, BaseException):
            raise found or ImportError(f"the import of {self.module} did not end")
        return found


def _in_background(work: Callable[..., None], *args: object) -> None:
    threading.Thread(target=work, args=args, name="nuvom-import", daemon=True).start()


def is_interrupt(error: BaseException) -> bool:
    """Return whether ``error`` interrupts this thread, rather than coming from code it called.

    A module may raise KeyboardInterrupt itself. In a program other than a command-line worker the
    two cannot be distinguished, and the error counts as Ctrl-C.
    """
    if isinstance(error, AttemptClosed):
        return True
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
