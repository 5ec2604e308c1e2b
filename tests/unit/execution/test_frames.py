"""Frames over a pipe: whole or not at all, and nothing but frames."""

from __future__ import annotations

import os
import threading

import pytest

from nuvom.execution.frames import FromChild, Link, Stack, ToChild


def pair() -> tuple[Link, Link]:
    """Return the worker's and the child's end of a link."""
    to_child, to_worker = os.pipe(), os.pipe()
    worker = Link(os.fdopen(to_worker[0], "rb", 0), os.fdopen(to_child[1], "wb", 0), FromChild)
    child = Link(os.fdopen(to_child[0], "rb", 0), os.fdopen(to_worker[1], "wb", 0), ToChild)
    return worker, child


def close(*links: Link) -> None:
    for link in links:
        link.close_sink()
        link.close_source()


def test_long_frames_of_many_threads_arrive_whole() -> None:
    worker, child = pair()
    texts = [str(n) * 300_000 for n in range(4)]
    senders = [threading.Thread(target=child.send, args=(Stack(1, text),)) for text in texts]
    for sender in senders:
        sender.start()
    assert sorted(texts) == sorted(worker.receive().text for _ in texts)
    for sender in senders:
        sender.join()
    close(worker, child)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\0\0\0\x09half",
        b"\xff\xff\xff\xff more than there may be",
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x03abc",
        b"\0\0\0\x08\x91\xa6\xff\xff\xff\xff\xff\xff",
    ],
)
def test_end_and_damage_are_the_end(data: bytes) -> None:
    worker, child = pair()
    child._sink.write(data)
    child.close_sink()
    assert worker.receive() is None
    close(worker, child)
