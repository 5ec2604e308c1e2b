"""``/events``: tells open pages that something has changed, so that they read themselves again.

One thread for each process looks at the store, however many pages are open, and none if no page
is. It keeps no transaction open. A page never misses a change: it sends the revision that it was
made from, or the last that it has heard of, and is told at once if that is not the present one.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from hashlib import blake2b
from typing import TYPE_CHECKING

from nuvom.core.clock import SYSTEM_CLOCK, Clock
from nuvom.errors import NuvomError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from starlette.types import Receive, Scope, Send

LOST = "lost"
"""The revision, and the event, while the store cannot be read."""

_LOOK_SECS = 0.5  # so that no page is told more than twice a second
_LINGER_SECS = 10.0  # after the last page has left: it mostly is on the way to the next one
_PING_SECS = 15.0
_LONGEST_SECS = 300.0  # then the page connects again, and its access is checked again


class StoreWatch:
    """Watches a store while somebody listens.

    Args:
        read: Returns a value that changes with the store. Raises: NuvomError: it cannot be read.
        is_ending: Whether the server is about to end; streams then end at once, since it waits for
            them.

    Attributes:
        revision: What the store looked like at the last look, "" if nobody looked.
    """

    def __init__(
        self,
        read: Callable[[], Hashable],
        is_ending: Callable[[], bool],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.revision = ""
        self._read = read
        self._is_ending = is_ending
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: set[StreamListener] = set()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._touches = 0

    def join(self, listener: StreamListener) -> None:
        """Tell a listener of changes until it leaves."""
        with self._lock:
            self._listeners.add(listener)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="nuvom-dashboard", daemon=True
                )
                self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether nobody looks at the store any more."""
        return self._closing.is_set()

    def touch(self) -> None:
        """Have open pages read themselves again, though the store may be the same."""
        self._touches += 1

    def leave(self, listener: StreamListener) -> None:
        """Tell a listener no more."""
        with self._lock:
            self._listeners.discard(listener)

    def look(self) -> None:
        """Look at the store once, and tell all listeners if it has changed."""
        try:
            found = blake2b(repr((self._read(), self._touches)).encode(), digest_size=8).hexdigest()
        except NuvomError:
            found = LOST
        self._tell(found, is_over=self._is_ending())

    def _tell(self, revision: str, *, is_over: bool) -> None:
        with self._lock:
            is_new, self.revision = revision != self.revision, revision
            listeners = tuple(self._listeners) if is_new or is_over else ()
        for one in listeners:
            one.tell(is_over=is_over)

    def close(self) -> None:
        """End all streams and the thread; nobody looks at the store any more."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        try:
            left_at = self._clock.monotonic()
            while not self._ends_after(left_at):
                self.look()
                if self._listeners:
                    left_at = self._clock.monotonic()
                self._clock.wait(self._closing, _LOOK_SECS)
        finally:
            with self._lock:
                self._thread = None
            self._tell("", is_over=True)  # whoever has come this very moment connects again

    def _ends_after(self, left_at: float) -> bool:
        is_left = self._clock.monotonic() - left_at > _LINGER_SECS
        return is_left or self._closing.is_set() or self._is_ending()


class StreamListener:
    """One open stream: woken from the thread that watches, on the loop that serves it.

    Attributes:
        is_over: The stream has to end.
    """

    def __init__(self) -> None:
        self.is_over = False
        self.woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, *, is_over: bool) -> None:
        """Wake the stream; called by any thread."""
        self.is_over = self.is_over or is_over
        try:
            self._loop.call_soon_threadsafe(self.woken.set)
        except RuntimeError:  # its loop has ended, and the stream with it
            return


class EventStream:
    """The answer to ``/events``: server-sent events until the client or the server ends it.

    Args:
        since: The revision that the client knows.
    """

    def __init__(self, changes: StoreWatch, since: str) -> None:
        self._changes = changes
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events."""
        del scope
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would hold events back
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        listener = StreamListener()
        watching = asyncio.ensure_future(_until_gone(receive, listener))
        self._changes.join(listener)
        try:
            await self._send_all(listener, send)
        finally:
            self._changes.leave(listener)
            watching.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, listener: StreamListener, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        await write("retry: 1000\n\n")
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _LONGEST_SECS
        known = self._since
        while not listener.is_over and loop.time() < ends_at:
            now = self._changes.revision
            if now not in ("", known):
                known = now
                event = LOST if now == LOST else "changed"
                await write(f"id: {now}\nevent: {event}\ndata: {now}\n\n")
            try:
                await asyncio.wait_for(listener.woken.wait(), _PING_SECS)
            except TimeoutError:
                await write(": ping\n\n")
            listener.woken.clear()


async def _until_gone(receive: Receive, listener: StreamListener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.tell(is_over=True)


def server_is_ending() -> bool:
    """Return whether the server that runs this application was told to end, if that can be seen.

    A server waits for open answers before it tells an application to end, so a stream that waited
    for that would hold it up for ever. uvicorn's handler of Ctrl-C is a method of the server.
    """
    server = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    return getattr(server, "should_exit", False) is True
