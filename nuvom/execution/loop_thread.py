"""An event loop in a thread of its own, which shows for how long it has not turned."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nuvom.core.guard import AttemptClosed, Guard
from nuvom.execution.failures import current_frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from nuvom.core.clock import Clock

_TURN_SECS = 0.25  # between notes that the loop turns
_LEAVE_SECS = 1.0  # for coroutines to clean up at the end


class LoopThread:
    """Runs an event loop until ``end``.

    Args:
        crashed: Called when the loop itself fails.

    Attributes:
        loop: To be called from other threads by ``call`` alone.
        guard: Only a step of a task's coroutine is interrupted, and only while it is its turn.
        turned_at: Monotonic seconds, when it was last seen to turn.
    """

    def __init__(self, clock: Clock, crashed: Callable[[BaseException], None]) -> None:
        self.loop = asyncio.new_event_loop()
        self.guard = Guard()
        self._clock = clock
        self._crashed = crashed
        self.turned_at = clock.monotonic()
        self._is_ending = False
        self._thread = threading.Thread(target=self._main, name="nuvom-loop", daemon=True)
        self._thread.start()

    # ---- from other threads -------------------------------------------------------------

    def call(self, callback: Callable[..., object], *args: Any) -> None:  # as the callback takes
        """Have something called on the loop, soon; never when it is closed."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args)

    def blocked_secs(self) -> float:
        """Return for how long it has not turned."""
        return self._clock.monotonic() - self.turned_at

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return the task whose code runs now, None where nothing or something else does."""
        return asyncio.current_task(self.loop)

    def frame(self) -> FrameType | None:
        """Return where its thread is."""
        return current_frames().get(self._thread.ident or 0)

    def end(self) -> None:
        """Cancel what still runs, and stop; who swallows the cancellation is left behind."""
        self._is_ending = True
        self.call(self.loop.stop)

    def join(self) -> None:
        """Wait for the end, not for long; not at all on the loop itself."""
        if self._thread is not threading.current_thread():
            self._thread.join(2 * _LEAVE_SECS)

    # ---- in its thread ------------------------------------------------------------------

    def _main(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        loop.call_soon(self._turn)
        try:
            self.guard.run(self._turn_until_it_ends)
        except Exception as error:  # noqa: BLE001  # outermost: a fault of the engine must not pass in silence
            self._crashed(error)
        finally:
            loop.close()

    def _turn_until_it_ends(self) -> None:
        while not self._is_ending:
            # asyncio lets them through when anything but a job raises them: a task that a job has
            # made, or a callback. The loop is everybody's and goes on.
            with suppress(KeyboardInterrupt, SystemExit, AttemptClosed):
                self.loop.run_forever()
        with suppress(RuntimeError):  # somebody's code has stopped the loop once more
            _leave(self.loop)

    def _turn(self) -> None:
        self.turned_at = self._clock.monotonic()
        if not self._is_ending:
            self.loop.call_later(_TURN_SECS, self._turn)


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Let coroutines clean up, for a moment."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LEAVE_SECS))
    loop.run_until_complete(loop.shutdown_asyncgens())
