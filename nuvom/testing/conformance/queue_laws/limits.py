"""How much a queue takes, and which names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.ids import new_id
from nuvom.core.record import JobStatus
from nuvom.errors import InvalidId, QueueFull
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.queue_backends.base import BaseJobQueue
    from nuvom.testing.conformance.queue_bench import QueueBench

HOSTILE = (
    "",
    ".",
    "..",
    "../escape",
    "a/b",
    "a\\b",
    "/etc/escape",
    "C:\\escape",
    "a\0b",
    "a\nb",
    "a b",
    "-a",
    ".a",
    "a'; DROP TABLE jobs; --",
    "{a}",
    "%s",
    "*",
    "naïve",
    "a" * 65,
)
"""Texts that are no name of a queue and no id."""


class Limits(QueueKit):
    """What is refused is refused as a whole, with an error that says so."""

    @law(Capability.LEASES)
    def test_a_full_queue_says_so(self, bench: QueueBench) -> None:
        """With ``max_queue_size`` jobs waiting in a queue ``enqueue`` raises and stores nothing."""
        queue = bench.open(max_queue_size=2)
        bench.put()
        bench.put()
        assert _raises_full(queue, bench), "a third job was accepted where two may wait"
        assert queue.qsize() == 2, f"qsize() is {queue.qsize()} after a refusal"

    @law(Capability.LEASES)
    def test_each_queue_is_full_by_itself(self, bench: QueueBench) -> None:
        """A full queue does not make another one full."""
        bench.open(max_queue_size=1)
        bench.put(queue="mail")
        bench.put(queue="default")

    @law(Capability.LEASES)
    def test_running_jobs_make_room(self, bench: QueueBench) -> None:
        """A job that runs does not count as waiting, and may wait again in any case."""
        queue = bench.open_leased(max_queue_size=1)
        job = bench.put_and_claim()
        bench.put()
        assert queue.release([job]) == [True], "a job could not be given back to a full queue"
        job = bench.claim()
        assert bench.settle(job, JobStatus.PENDING), "a full queue refused a retry"
        assert queue.qsize() == 2, f"qsize() is {queue.qsize()} with two jobs waiting"

    @law(Capability.LEASES)
    def test_a_full_queue_still_tells_of_known_jobs(self, bench: QueueBench) -> None:
        """In a full queue an id that is stored, or a taken key, is answered as ever."""
        queue = bench.open(max_queue_size=1)
        job = bench.put(unique_key="once")
        assert queue.enqueue(job) in (None, job.id), "a stored id is refused by a full queue"
        if Capability.UNIQUE in queue.capabilities:
            answer = queue.enqueue(bench.job(unique_key="once"))
            assert answer == job.id, f"a taken key gave {answer!r} in a full queue"

    @law(Capability.LEASES)
    def test_children_are_never_refused(self, bench: QueueBench) -> None:
        """A settlement whose child does not fit into its queue is accepted, child included."""
        queue = bench.open_leased(max_queue_size=1)
        parent = bench.put_and_claim()
        bench.put()
        accepted = bench.settle(parent, children=(bench.job(),))
        assert accepted, "a settlement was refused because its child's queue is full"
        assert queue.qsize() == 2, f"qsize() is {queue.qsize()} after a child was added to one job"

    # ---- names ----------------------------------------------------------------------------

    @law(Capability.LEASES)
    def test_bad_queue_names_are_refused(self, bench: QueueBench) -> None:
        """``enqueue`` raises InvalidId for a queue name that is none, and stores nothing."""
        queue = bench.open()
        accepted = [name for name in HOSTILE if not _is_invalid(bench, queue=name)]
        assert accepted == [], f"accepted as names of queues: {accepted}"
        assert queue.qsize() == 0, f"{queue.qsize()} jobs with refused names are stored"

    @law(Capability.LEASES)
    def test_bad_ids_are_refused(self, bench: QueueBench) -> None:
        """``enqueue`` raises InvalidId for an id that is none, and stores nothing."""
        queue = bench.open()
        accepted = [name for name in HOSTILE if not _is_invalid(bench, id=name)]
        assert accepted == [], f"accepted as ids: {accepted}"
        assert queue.qsize() == 0, f"{queue.qsize()} jobs with refused ids are stored"

    @law()
    def test_hostile_names_stay_inside(self, bench: QueueBench) -> None:
        """Whatever an id or a queue is called, nothing appears outside the store's own folder."""
        queue = bench.open()
        token = new_id()
        names = [f"{'../' * up}{token}" for up in range(1, 7)]
        names += [str(bench.folder / token), f"..\\{token}", f"a/../../{token}"]
        for name in names:
            for field in ("id", "queue"):
                _is_invalid(bench, **{field: name})
        queue.pop_batch(2 * len(names))
        stray = list(_outside(bench.folder, token))
        assert stray == [], f"written outside the store's folder: {stray}"

    @law(Capability.LEASES)
    def test_hostile_texts_elsewhere_are_just_text(self, bench: QueueBench) -> None:
        """Task names and tags may be any text; they come back as they were."""
        queue = bench.open()
        for text in HOSTILE:
            bench.put(text, tags=(text,), metadata={text: text})
        handed = sorted((job.func_name, job.tags) for job in queue.pop_batch(len(HOSTILE)))
        expected = sorted((text, (text,)) for text in HOSTILE)
        assert handed == expected, f"texts came back as {handed}"


def _raises_full(queue: BaseJobQueue, bench: QueueBench) -> bool:
    try:
        queue.enqueue(bench.job())
    except QueueFull:
        return True
    return False


def _is_invalid(bench: QueueBench, **fields: str) -> bool:
    try:
        bench.queue.enqueue(bench.job(**fields))
    except InvalidId:
        return True
    return False


def _outside(folder: Path, token: str) -> Iterator[str]:
    """Yield all paths called after ``token`` beside the stores in ``folder``, or above it."""
    for above in [folder, *folder.parents][:7]:
        yield from (str(path) for path in above.glob(f"*{token}*"))
