"""A TCP proxy that cuts connections, delays what they carry, and holds it back.

It runs in a thread of the test, between workers and their server.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Self

_CHUNK = 1 << 16


class Proxy:
    """Passes on what comes to ``port``. Safe to use from any thread.

    Args:
        target: Host and port that connections lead to.

    Attributes:
        target: New connections lead here.
        delay_secs: How long each piece is on its way, in either direction.
    """

    def __init__(self, target: tuple[str, int], *, delay_secs: float = 0.0) -> None:
        self.target = target
        self.delay_secs = delay_secs
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    def __enter__(self) -> Self:
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = self._loop.run_until_complete(listening)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def cut(self) -> None:
        """Cut all connections. Those who are connected learn of it at once."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def freeze(self) -> None:
        """Hold back what is sent from now on, in both directions; connections stay open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def thaw(self) -> None:
        """Let all flow that was held back."""
        self._loop.call_soon_threadsafe(self._flows.set)

    async def _close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)  # the sockets are closed in the next turn of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        ways = ((reader, far_writer), (far_reader, writer))
        await asyncio.gather(*(self._carry(*way) for way in ways))
        self._writers -= {writer, far_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction. What is on its way does not delay what follows."""
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arrival = asyncio.create_task(self._arrive(way, writer))
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:  # the other side is gone
                data = b""
            way.put_nowait((self._loop.time() + self.delay_secs, data))
        await arrival

    async def _arrive(
        self, way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        data = b"-"
        while data:
            due, data = await way.get()
            await asyncio.sleep(due - self._loop.time())
            await self._flows.wait()
            writer.write(data)
        writer.close()
