"""The tasks that every peer runs, and the marks by which moments are told between processes.

Nothing else counts or times inside a worker: a no-op that returns its argument, and a job that
writes the time into a shared page. ``perf_counter`` is one clock for all processes of a machine
on Linux, macOS and Windows.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

PLACES = 4096
_MOMENT = struct.Struct("<q")
_pages: list[mmap.mmap] = []


def noop(number: int) -> int:
    """Return the argument: the job that throughput is counted in."""
    return number


def mark(place: int, pause_secs: float = 0.0) -> int:
    """Sleep, write down the time, return the place."""
    if pause_secs:
        time.sleep(pause_secs)
    _MOMENT.pack_into(_page(), 8 * place, time.perf_counter_ns())
    return place


async def noop_async(number: int) -> int:
    """Return the argument."""
    return number


async def mark_async(place: int, pause_secs: float = 0.0) -> int:
    """Sleep, write down the time, return the place."""
    import asyncio  # noqa: PLC0415  # a worker that does without it has its start measured

    if pause_secs:
        await asyncio.sleep(pause_secs)
    return mark(place)


def burn(secs: float) -> int:
    """Run pure Python for so long: the bad neighbour of other slots."""
    ends_at = time.perf_counter() + secs
    turns = 0
    while time.perf_counter() < ends_at:
        turns += 1
    return turns


def count_to(limit: int) -> int:
    """Keep one core busy with work of fixed size."""
    total = 0
    for number in range(limit):
        total += number & 3
    return total


def clear_marks() -> None:
    """Forget all moments."""
    page = _page()
    page[:] = bytes(len(page))


def moment(place: int) -> int:
    """Return what was written, in nanoseconds; 0 when nothing was."""
    return int(_MOMENT.unpack_from(_page(), 8 * place)[0])


def await_moment(place: int, limit_secs: float, look_secs: float = 0.0005) -> int:
    """Return the moment once it is there.

    Raises: TimeoutError.
    """
    ends_at = time.perf_counter() + limit_secs
    while not (found := moment(place)):
        if time.perf_counter() > ends_at:
            raise TimeoutError(f"no worker has run the marking job {place} in {limit_secs:g} s")
        time.sleep(look_secs)
    return found


def _page() -> mmap.mmap:
    if not _pages:
        path = os.path.join(os.environ["BENCH_FOLDER"], "marks")
        if not os.path.exists(path):
            with open(path, "wb") as stream:
                stream.write(bytes(8 * PLACES))
        with open(path, "r+b") as stream:
            _pages.append(mmap.mmap(stream.fileno(), 8 * PLACES))
    return _pages[0]
