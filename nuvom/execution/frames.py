"""The frames that a worker and a child of its process lane exchange, and the pipe for them.

A frame is a four-byte length and one MessagePack value of a closed set of kinds. Arguments
and results stay encoded by the project's codec; nothing is ever built from a received name.
"""

from __future__ import annotations

import errno
import threading
from typing import IO, Any

import msgspec

from nuvom.core.outcome import Settlement
from nuvom.core.record import JobRecord, StoredError
from nuvom.host.fork import drop_at_fork

_LENGTH_BYTES = 4
_MOST_BYTES = 1 << 30  # far above any payload or result; a greater length means corruption
_PIECE_BYTES = 1 << 16

# ---- from the worker ------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The first frame: what the child needs to match its worker's setup.

    Attributes:
        settings: ``Settings.to_dict()``.
        worker: The worker's id.
        log_level: Level of the worker's log; None when the worker has not configured one.
        middleware: ``Middleware.in_child`` of each middleware that also runs in the child.
        ahead_secs: Of the store's clock, compared with the monotonic one; None: as this machine's.
    """

    settings: dict[str, Any]
    worker: str
    log_level: int | None = None
    middleware: tuple[str, ...] = ()
    ahead_secs: float | None = None


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """Run this attempt; its task is ``qualname`` in ``module``."""

    token: int
    record: JobRecord
    module: str
    qualname: str


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """The running attempt is closed: stop its code and exit."""


class Interrupt(msgspec.Struct, frozen=True, array_like=True, tag="interrupt"):
    """Raise ``SoftTimeout`` or ``JobStopping``, by name, in the code of the running attempt."""

    token: int
    error: str


class Stopping(msgspec.Struct, frozen=True, array_like=True, tag="stopping"):
    """The worker was told to stop."""


class AskStack(msgspec.Struct, frozen=True, array_like=True, tag="ask-stack"):
    """Report the stack of the running attempt."""

    token: int


class ProgressKept(msgspec.Struct, frozen=True, array_like=True, tag="progress-kept"):
    """Answers ``Progress``; ``fault`` is the store's error, if any."""

    seq: int
    is_ours: bool
    fault: str = ""


# ---- from the child -------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The child is waiting for its first attempt."""


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """The child has received the attempt; sent again once it has imported the task."""

    token: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """What closes the attempt.

    Attributes:
        settlement: With an empty record, since the worker already has it; None if the child
            could not import the task, because of ``refusal``.
        value: The encoded result for ``after_job``, if the settlement keeps none.
        fault: Why that result could not be encoded.
    """

    token: int
    settlement: Settlement | None
    value: bytes | None = None
    fault: StoredError | None = None
    refusal: str = ""


class Stack(msgspec.Struct, frozen=True, array_like=True, tag="stack"):
    """Answers ``AskStack``."""

    token: int
    text: str


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """The running attempt reports its progress and waits for ``ProgressKept``."""

    token: int
    seq: int
    done: float
    total: float | None
    text: str


ToChild = Hello | Run | Close | Interrupt | Stopping | AskStack | ProgressKept
FromChild = Ready | Started | Ended | Stack | Progress


# ---- the pipe -------------------------------------------------------------------------


class Link:
    """One end of the two pipes between a worker and a child. Any thread may call ``send``.

    Args:
        source, sink: Unbuffered streams to read from and write to; the link owns them. A
            buffer has a lock, which a fork could inherit while it is held.
        kinds: The kinds of frame that may be received, ``ToChild`` or ``FromChild``.
    """

    def __init__(self, source: IO[bytes], sink: IO[bytes], kinds: Any) -> None:
        self._source = source
        self._sink = sink
        self._decoder = msgspec.msgpack.Decoder(kinds)
        self._lock = threading.Lock()
        self._is_dropped = False
        drop_at_fork(self)

    def send(self, frame: ToChild | FromChild) -> None:
        """Send a frame, whole. Raises: OSError, ValueError: the other end, or this one, is gone."""
        data = _ENCODER.encode(frame)
        header = len(data).to_bytes(_LENGTH_BYTES, "big")
        if self._is_dropped:
            raise BrokenPipeError(errno.EPIPE, "the worker cannot be reached from a forked process")
        with self._lock:
            if len(data) <= _PIECE_BYTES:
                _write(self._sink, header + data)
            else:
                _write(self._sink, header)
                _write(self._sink, data)

    def receive(self) -> Any:
        """Return the next frame; None when the other end is gone or sends something invalid."""
        length = int.from_bytes(self._read(_LENGTH_BYTES), "big")
        if not 0 < length <= _MOST_BYTES:
            return None
        try:
            return self._decoder.decode(self._read(length))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def close_sink(self) -> None:
        """Send no more; the other end sees the end of the stream. Idempotent."""
        self._sink.close()

    def close_source(self) -> None:
        """Read no more; only for the reading thread. Idempotent."""
        self._source.close()

    def drop_in_child(self) -> None:
        """Close both pipes in a forked process: left open, they would hide the real end."""
        self._is_dropped = True
        self._source.close()
        self._sink.close()

    def _read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        pieces = []
        while size:
            piece = self._source.read(min(size, _PIECE_BYTES))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def _write(sink: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[sink.write(left) :]  # without a buffer it may write only a part


_ENCODER = msgspec.msgpack.Encoder()
