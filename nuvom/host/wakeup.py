"""Wakes processes on one machine that sleep until there is work or a result.

A byte in a mapped file shows that a listener sleeps. A notifier searches these bytes in memory and
sends a datagram to sleeping listeners only. A listener sets its byte, checks once more for news,
then sleeps, so that it misses nothing. If a wake-up is lost anyway, the listener's own time limit
ends the sleep. The same file holds a number that changes with every control command. This module
knows nothing of queues.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

from nuvom.host.files import (
    READ_WRITE,
    on_file,
    private_directory,
    read_file,
    storage_errors,
    write_all,
    write_durably,
)
from nuvom.host.fork import drop_at_fork
from nuvom.host.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LISTENERS = 256  # of each kind; later ones are never woken and sleep until their time limit
_CONTROL = 2 * LISTENERS
_CONTROL_BYTES = 8
_KINDS = {"work": 0, "result": LISTENERS, "schedule": _CONTROL + _CONTROL_BYTES}
_FILE_BYTES = 1024
_ASLEEP = b"\x01"
_UNIX: int = getattr(socket, "AF_UNIX", -1)  # Windows does not support it for datagrams
_LOOPBACK = "127.0.0.1"
_ANY_PORT = (_LOOPBACK, 0)
_MAX_ADDRESS_BYTES = 100  # of a socket path: 108 on Linux, 104 on macOS, including the terminator


class Wakeup:
    """Wakes the listeners of one store. Usable from any thread, and after a fork.

    Args:
        directory: The store's; its folder ``bells`` is created if missing. (The name is from
            earlier versions, whose processes may share the store.)
        family: ``AF_UNIX`` or ``AF_INET``, the kind of sockets; by default the best for the system.
    Raises: BackendUnavailable, StorageFull: the folder or the file cannot be used.
    """

    def __init__(self, directory: Path, *, family: int | None = None) -> None:
        self._folder = os.path.realpath(directory / "bells")
        private_directory(directory / "bells")
        self._map = _map_file(os.path.join(self._folder, "flags"))
        self._sender = Sender(family or _best_family(self._folder))
        self._kept: list[Listener] = []
        self._idle: list[Listener] = []  # for work; each waiting thread has its own
        self._sleeping: set[Listener] = set()
        self._is_closed = False

    def listen(self, kind: str) -> Listener:
        """Return a listener for ``work``, ``result`` or ``schedule``. The caller must close it."""
        first = _KINDS[kind]
        for index in range(LISTENERS):
            name = os.path.join(self._folder, f"{kind}-{index}")
            listener = self._seated(name, first + index)
            if listener is not None:
                return listener
        return Listener(None, _bound_socket(socket.AF_INET, _ANY_PORT), bytearray(1), 0)

    def _seated(self, name: str, at: int) -> Listener | None:
        """Return a listener in a place of the file, or None if a live one has it."""
        lock, bound = FileLock(f"{name}.lock"), None
        try:
            if not lock.acquire():  # a dead listener no longer holds its lock, so its place is free
                return None
            with storage_errors(name):
                bound = self._sender.bind(name)
            self._map[at] = 0  # set by one that died
            return Listener(lock, bound, self._map, at)
        except BaseException:
            lock.remove()
            if bound is not None:
                bound.close()
            raise

    def wait_for_work(self, timeout: float, has_work: Callable[[], bool]) -> bool:
        """Sleep at most ``timeout`` seconds; return whether there may be work.

        Args:
            has_work: Called after a wake-up can no longer be missed; if true, there is no sleep.
        """
        try:
            listener = self._idle.pop()
        except IndexError:  # all are in use: each waiting thread needs its own
            listener = self.listen("work")
        try:
            listener.arm()
            self._sleeping.add(listener)  # once it is in the set, arming does not lose a poke
            is_awake = has_work() or listener.wait(timeout)
            listener.disarm()
            self._sleeping.discard(listener)
            self._idle.append(listener)
        except BaseException:
            self._sleeping.discard(listener)
            listener.close()
            raise
        return is_awake

    def interrupt(self) -> None:
        """End every ``wait_for_work`` of this process."""
        for listener in tuple(self._sleeping):
            listener.poke()

    @contextmanager
    def waiter(self) -> Iterator[Listener]:
        """Lend a listener for ``result`` that is armed whenever its user checks for news.

        One is kept for the next user, since creating and removing it takes longer than reading a
        result. Only one is kept, since each takes a place from other processes.
        """
        try:
            listener = self._kept.pop()
        except IndexError:
            listener = self.listen("result")
        if listener.fileno() < 0:  # it belongs to a parent
            listener = self.listen("result")
        try:
            listener.arm()
            yield listener
        finally:
            listener.disarm()
            if self._kept or self._is_closed or not listener.has_place:
                listener.close()
            else:
                self._kept.append(listener)
                if self._is_closed:  # just now: whoever closed this did not see it
                    self._close_spare()

    @contextmanager
    def schedule_waiter(self) -> Iterator[Listener]:
        """Lend a listener for ``schedule`` that is armed all the time."""
        listener = self.listen("schedule")
        try:
            listener.arm()
            yield listener
        finally:
            listener.close()

    def notify_one(self, kind: str = "work") -> bool:
        """Wake one sleeping listener; False if none sleeps. Never fails."""
        flags, first = self._map, _KINDS[kind]
        at = flags.find(_ASLEEP, first, first + LISTENERS)
        while at >= 0:
            flags[at] = 0
            if self._sender.send(f"{self._folder}{os.sep}{kind}-{at - first}"):
                return True
            at = flags.find(_ASLEEP, at + 1, first + LISTENERS)
        return False

    def notify_all(self, kind: str = "result") -> None:
        """Wake all sleeping listeners. Never fails."""
        flags, first = self._map, _KINDS[kind]
        at = flags.find(_ASLEEP, first, first + LISTENERS)
        while at >= 0:  # each once: one that sleeps again by then has checked for news
            flags[at] = 0
            self._sender.send(f"{self._folder}{os.sep}{kind}-{at - first}")
            at = flags.find(_ASLEEP, at + 1, first + LISTENERS)

    def bump(self) -> None:
        """Change ``version``; call it after the change that it announces.

        The value is random: a counter incremented by two processes at once could hide a change.
        """
        self._map[_CONTROL : _CONTROL + _CONTROL_BYTES] = os.urandom(_CONTROL_BYTES)

    def version(self) -> int:
        """Return a number that differs after every ``bump``."""
        return int.from_bytes(self._map[_CONTROL : _CONTROL + _CONTROL_BYTES], "little")

    def close(self) -> None:
        """Close the map, the socket and the kept listeners, but no others. Idempotent."""
        self._is_closed = True
        self._close_spare()
        self._sender.close()

    def _close_spare(self) -> None:
        for listeners in (self._kept, self._idle):
            with suppress(IndexError):  # empty, perhaps only now
                while True:
                    listeners.pop().close()


class Listener:
    """Sleeps until there is news, in one thread at a time.

    Call ``arm``, check for news, then ``wait``. Any thread may call ``poke``. A forked child does
    not have the listener. One for ``result`` or ``schedule`` is armed again at the end of each
    ``wait``.

    Attributes:
        has_place: Whether others can see and wake it.
    """

    def __init__(
        self, lock: FileLock | None, bound: socket.socket, flags: mmap.mmap | bytearray, at: int
    ) -> None:
        self._lock = lock
        self._socket = bound
        self._address = bound.getsockname()
        self._flags = flags
        self._at = at
        self.has_place = lock is not None
        self._stays_armed = at >= _KINDS["result"]
        drop_at_fork(self)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable on wake-up; -1 once closed."""
        return self._socket.fileno()

    def arm(self) -> None:
        """Ask to be woken; earlier wake-ups are discarded."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError, ConnectionResetError):
            while self._socket.recv(1):
                pass
        self._flags[self._at] = 1

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep at most ``timeout`` seconds until woken or poked; return whether it was."""
        self._socket.settimeout(timeout)
        try:
            self._socket.recv(1)
            is_woken = True
        except (TimeoutError, BlockingIOError, ConnectionResetError):
            is_woken = False
        if self._stays_armed:
            self._flags[self._at] = 1
        return is_woken

    def disarm(self) -> None:
        """Stop asking to be woken."""
        self._flags[self._at] = 0

    def poke(self) -> None:
        """End the current ``wait`` of this listener."""
        with suppress(OSError):  # a full buffer also wakes it
            self._socket.sendto(_ASLEEP, self._address)

    def close(self) -> None:
        """Give the place back. Idempotent; call it again if it was interrupted."""
        self._socket.close()
        if self._lock is not None and self._lock.held:  # else this is a child of its creator
            self.disarm()
            if isinstance(self._address, str):
                with suppress(OSError):
                    os.unlink(self._address)
            self._lock.remove()

    def __del__(self) -> None:
        # Its place is freed anyway, since its lock goes with it. At interpreter exit the names of
        # this module may be None, including ``suppress``.
        try:  # noqa: SIM105
            self._socket.close()
        except AttributeError:  # interrupted before it had a socket
            pass

    def drop_in_child(self) -> None:
        """Close the child's copy, which would keep the address alive after the parent's death."""
        self._socket.close()
        if self._lock is not None:
            self._lock.drop_in_child()


class Sender:
    """Sends datagrams to listeners, each known by the name that its files begin with.

    Socket files are the fastest way where they exist. Windows, and paths too long for them, get UDP
    on 127.0.0.1, with the ports kept in files; other users can send such datagrams too, but these
    only make a listener check for news. One socket sends all; it is created for the first sleeper.
    """

    _socket: socket.socket | None = None

    def __init__(self, family: int) -> None:
        self.family = family
        self._mutex = Lock()
        drop_at_fork(self)

    def bind(self, name: str) -> socket.socket:
        """Return a socket that receives what is sent to ``name``."""

        def note_port(bound: socket.socket) -> None:
            write_durably(f"{name}.port", b"%d" % bound.getsockname()[1], flush=False)

        if self.family == socket.AF_INET:
            return _bound_socket(socket.AF_INET, _ANY_PORT, note_port)
        path = f"{name}.sock"
        with suppress(FileNotFoundError):
            os.unlink(path)
        return _bound_socket(_UNIX, path, lambda _: os.chmod(path, 0o600))

    def send(self, name: str) -> bool:
        """Send something to ``name`` without waiting; False when nobody is there."""
        try:
            address: str | tuple[str, int] = f"{name}.sock"
            if self.family == socket.AF_INET:
                address = _LOOPBACK, int(read_file(f"{name}.port"))
            with self._mutex:
                sender = self._socket
                if sender is None:
                    sender = socket.socket(self.family, socket.SOCK_DGRAM)
                    sender.setblocking(False)
                    self._socket = sender  # only now, so that no call ever uses it while it blocks
                sender.sendto(_ASLEEP, address)
        except BlockingIOError:  # it has unread datagrams, so it is awake
            pass
        except (OSError, OverflowError, ValueError):  # nobody there; an enqueue must not fail
            return False
        return True

    def close(self) -> None:
        """Close the sending socket."""
        with self._mutex:
            self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __del__(self) -> None:
        self._drop()

    def drop_in_child(self) -> None:
        """Close the child's copy of the socket."""
        self._mutex = Lock()  # a thread of the parent may have held it
        self._drop()


def _bound_socket(
    family: int,
    address: str | tuple[str, int],
    complete: Callable[[socket.socket], object] = bool,
) -> socket.socket:
    """Return a socket bound to ``address``, after calling ``complete`` with it."""
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.bind(address)
        complete(bound)
    except BaseException:
        bound.close()
        raise
    return bound


def _best_family(folder: str) -> int:
    longest = os.fsencode(os.path.join(folder, f"result-{LISTENERS - 1}.sock"))
    is_too_long = len(longest) > _MAX_ADDRESS_BYTES
    return socket.AF_INET if sys.platform == "win32" or is_too_long else _UNIX


def _map_file(path: str) -> mmap.mmap:
    with storage_errors(path):
        return on_file(path, READ_WRITE | os.O_CREAT, _mapped)


def _mapped(descriptor: int) -> mmap.mmap:
    missing = _FILE_BYTES - os.fstat(descriptor).st_size
    if missing > 0:
        # Written, not extended by truncate: a hole that cannot be filled on a full disk would
        # kill the process with SIGBUS. At worst this clears a byte that was just set.
        os.lseek(descriptor, 0, os.SEEK_END)
        write_all(descriptor, bytes(missing))
    return mmap.mmap(descriptor, _FILE_BYTES)
