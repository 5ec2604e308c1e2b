"""The stream that tells pages of changes: at once after a pause, and to its end with the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable
from typing import Any

import pytest

from nuvom.contrib.dashboard import events
from nuvom.contrib.dashboard.events import EventStream, StoreWatch, server_is_ending
from nuvom.errors import BackendUnavailable
from tests.engine import LIMIT_SECS
from tests.unit.contrib.dashboard.conftest import Dashboard


class Store:
    """What is watched: it changes when told to, and counts how often it is read."""

    def __init__(self) -> None:
        self.now: Hashable | Exception = 1
        self.is_ending = False
        self.reads = 0

    def read(self) -> Hashable:
        self.reads += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


class Reader:
    """A client of the stream."""

    def __init__(self, watch: StoreWatch, since: str = "") -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.task = asyncio.ensure_future(EventStream(watch, since)({}, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.sent.put(message["body"].decode())

    async def next(self) -> str:
        return await asyncio.wait_for(self.sent.get(), LIMIT_SECS)

    async def end(self) -> None:
        self.gone.set()
        await asyncio.wait_for(self.task, LIMIT_SECS)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(events, "_LOOK_SECS", 0.001)
    return Store()


def watching(store: Store) -> StoreWatch:
    return StoreWatch(store.read, lambda: store.is_ending)


def event(text: str) -> tuple[str, str]:
    """Return the id and the kind of an event."""
    fields = dict(line.split(": ") for line in text.strip().split("\n"))
    assert fields["data"] == fields["id"]
    return fields["id"], fields["event"]


def test_each_page_is_told_of_each_change_and_none_twice(store: Store) -> None:
    async def watch() -> None:
        watch = watching(store)
        one, two = Reader(watch), Reader(watch)
        for reader in (one, two):
            assert await reader.next() == "retry: 1000\n\n"
        first = event(await one.next())
        assert event(await two.next()) == first
        store.now = 2
        second = event(await one.next())
        assert event(await two.next()) == second
        assert (first[1], second[1]) == ("changed", "changed")
        assert first[0] != second[0] == watch.revision
        assert one.sent.empty()
        await one.end()
        await two.end()
        watch.close()

    asyncio.run(watch())


def test_a_page_that_comes_back_is_told_at_once_if_it_has_missed_something(store: Store) -> None:
    async def watch() -> None:
        watch = watching(store)
        first = Reader(watch)
        await first.next()
        known, _ = event(await first.next())
        current = Reader(watch, since=known)
        store.now = 2
        news, _ = event(await first.next())
        late = Reader(watch, since=known)
        assert [await late.next(), event(await late.next())][1] == (news, "changed")
        assert [await current.next(), event(await current.next())][1] == (news, "changed")
        for reader in (first, current, late):
            await reader.end()
        watch.close()

    asyncio.run(watch())


def test_nobody_reads_the_store_when_nobody_listens(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch() -> None:
        watch = watching(store)
        assert store.reads == 0
        reader = Reader(watch)
        await reader.next()
        await reader.next()
        (thread,) = [one for one in threading.enumerate() if one.name == "nuvom-dashboard"]
        await reader.end()
        monkeypatch.setattr(events, "_LINGER_SECS", 0.0)
        await asyncio.to_thread(thread.join, LIMIT_SECS)
        assert not thread.is_alive()
        assert watch.revision == ""

    asyncio.run(watch())


def test_a_lost_store_is_told_and_so_is_its_return(store: Store) -> None:
    async def watch() -> None:
        watch = watching(store)
        reader = Reader(watch)
        await reader.next()
        known = event(await reader.next())
        store.now = BackendUnavailable("the store", "gone", "Wait.")
        assert event(await reader.next()) == ("lost", "lost")
        store.now = 1
        assert event(await reader.next()) == known
        await reader.end()
        watch.close()

    asyncio.run(watch())


@pytest.mark.parametrize("how", ["server", "close"])
def test_streams_end_with_the_server(store: Store, how: str) -> None:
    async def watch() -> None:
        watch = watching(store)
        reader = Reader(watch)
        await reader.next()
        if how == "server":
            store.is_ending = True
        else:
            await asyncio.to_thread(watch.close)
        await asyncio.wait_for(reader.task, LIMIT_SECS)

    asyncio.run(watch())


def test_a_quiet_stream_pings_and_ends_after_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_PING_SECS", 0.001)

    async def watch() -> None:
        watch = watching(store)
        reader = Reader(watch)
        while await reader.next() != ": ping\n\n":
            pass
        monkeypatch.setattr(events, "_LONGEST_SECS", 0.0)
        brief = Reader(watch)
        await asyncio.wait_for(brief.task, LIMIT_SECS)
        await reader.end()
        watch.close()

    asyncio.run(watch())


def test_a_server_that_is_told_to_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        should_exit = False

        def handle_exit(self, *_: object) -> None: ...

    server = Server()
    monkeypatch.setattr("signal.getsignal", lambda _: server.handle_exit)
    assert not server_is_ending()
    server.should_exit = True
    assert server_is_ending()
    monkeypatch.setattr("signal.getsignal", lambda _: None)
    assert not server_is_ending()


def test_each_kind_of_change_in_a_store_is_seen(any_dashboard: Dashboard) -> None:
    watch = any_dashboard.site.changes
    seen = []

    def look() -> None:
        watch.look()
        seen.append(watch.revision)

    look()
    look()
    assert seen[0] == seen[1]
    for change in (
        any_dashboard.add,
        lambda: any_dashboard.queue.claim(1, "worker-1"),
        lambda: any_dashboard.queue.pause("mail", "me"),
        lambda: any_dashboard.queue.cancel(any_dashboard.jobs["later"]),
    ):
        change()
        look()
        assert seen[-1] != seen[-2]
