"""Workers that make themselves visible, and words left for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nuvom.core.views import GONE_LEASES, WorkerInfo
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B, C
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.testing.conformance.queue_bench import QueueBench


class Workers(QueueKit):
    """Being visible and holding leases are two things."""

    @law(Capability.LEASES)
    def test_an_announced_worker_is_visible(self, bench: QueueBench) -> None:
        """``workers`` gives what was announced, oldest first, until it retires."""
        queue = bench.open_leased()
        now = bench.clock.now()
        queue.announce(WorkerInfo(id=A, pid=7, host="here", queues=("x",), slots=3, started_at=now))
        queue.announce(WorkerInfo(id=B, started_at=now - 10.0))
        shown = [(one.id, one.pid, one.host, one.queues, one.slots) for one in queue.workers()]
        expected = [(B, 0, "", (), 1), (A, 7, "here", ("x",), 3)]
        assert shown == expected, f"workers are {shown} instead of {expected}"
        queue.retire(A)
        left = [one.id for one in queue.workers()]
        assert left == [B], f"after {A} retired the workers are {left}"

    @law(Capability.LEASES)
    def test_an_announcement_can_be_renewed(self, bench: QueueBench) -> None:
        """A worker that is announced again is there once, as it is announced last."""
        queue = bench.open_leased()
        for state in ("alive", "quiet"):
            queue.announce(WorkerInfo(id=A, state=state, started_at=bench.clock.now()))
        shown = [(one.id, one.state) for one in queue.workers()]
        assert shown == [(A, "quiet")], f"workers are {shown}"

    @law(Capability.LEASES)
    def test_only_announced_workers_are_visible(self, bench: QueueBench) -> None:
        """Claiming alone makes no worker visible."""
        bench.put_and_claim(A)
        shown = bench.leased.workers()
        assert shown == [], f"workers are {shown} where none was announced"

    @law(Capability.LEASES)
    def test_a_worker_shows_how_many_jobs_it_holds(self, bench: QueueBench) -> None:
        """``running`` is the number of jobs that the worker holds a lease on."""
        queue = bench.open_leased()
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        first, _ = bench.put_and_claim(A), bench.put_and_claim(A)
        bench.put_and_claim(B)
        counts = [queue.workers()[0].running]
        bench.settle(first)
        counts.append(queue.workers()[0].running)
        assert counts == [2, 1], f"running was {counts}, with two and then one job held"

    @law(Capability.LEASES)
    def test_a_silent_worker_does_not_look_alive(self, bench: QueueBench) -> None:
        """A worker is silent once it has not beaten for a whole lease, and not before."""
        queue = bench.open_leased()
        for owner in (A, B):
            queue.announce(WorkerInfo(id=owner, started_at=bench.clock.now()))
        for beats in range(1, 5):
            bench.advance(bench.lease_secs * 0.4)
            queue.extend(B)
            states = {one.id: one.state for one in queue.workers()}
            assert states.get(B) == "alive", f"a worker that beats is {states.get(B)}"
            if bench.has_fake_clock and beats <= 2:
                assert states.get(A) == "alive", f"a worker is {states.get(A)} within a lease"
        assert states.get(A) == "silent", f"a silent worker is {states.get(A)}"

    @law(Capability.LEASES)
    def test_a_worker_that_stays_silent_is_gone(self, bench: QueueBench) -> None:
        """A worker that does not beat for 20 leases is not shown until it beats again."""
        queue = bench.open_leased()
        if not bench.has_fake_clock:
            return
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        bench.advance(bench.lease_secs * (GONE_LEASES - 1))
        queue.reap()
        assert len(queue.workers()) == 1, "a silent worker is not shown any more"
        bench.advance(bench.lease_secs)
        queue.reap()
        shown, was_left = queue.workers(), queue.command(A, "stop")
        assert (shown, was_left) == ([], False), f"a worker that is gone: {shown}, {was_left}"
        queue.extend(A)
        states = [one.state for one in queue.workers()]
        assert states == ["alive"], f"a worker that beats again: {states}"

    @law(Capability.LEASES)
    def test_commands_are_left_and_taken(self, bench: QueueBench) -> None:
        """``commands`` takes the words left for one worker, oldest first, once."""
        queue = bench.open_leased()
        for owner in (A, B):
            queue.announce(WorkerInfo(id=owner, started_at=bench.clock.now()))
        left = [queue.command(A, word) for word in ("quiet", "stacks", "resume", "stop")]
        assert left == [True] * 4, f"leaving commands returned {left}"
        taken = (queue.commands(B), queue.commands(A), queue.commands(A))
        assert taken == ([], ["quiet", "stacks", "resume", "stop"], []), (
            f"commands of B, A and A again were {taken}"
        )

    @law(Capability.LEASES)
    def test_a_command_needs_a_worker(self, bench: QueueBench) -> None:
        """``command`` is False for a worker that was not announced or has retired."""
        queue = bench.open_leased()
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        queue.retire(A)
        answers = (queue.command(A, "stop"), queue.command(C, "stop"), queue.commands(C))
        assert answers == (False, False, []), f"commands for nobody gave {answers}"

    @law(Capability.LEASES)
    def test_an_unknown_command_is_refused(self, bench: QueueBench) -> None:
        """``command`` raises ValueError for any other word, whoever it is for."""
        queue = bench.open_leased()
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        for owner in (A, C):
            try:
                answer = queue.command(owner, "dance")
            except ValueError:
                continue
            raise AssertionError(f"command({owner}, 'dance') returned {answer}")
        words = queue.commands(A)
        assert words == [], f"after a refused command {words} were taken"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_workers_notice_control(self, bench: QueueBench) -> None:
        """``control_version`` changes with each cancel, pause and command, and only then."""
        queue = bench.open_leased()
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        job = bench.put_and_claim(A)
        versions = [queue.control_version()]
        bench.put()
        queue.extend(A)
        versions.append(queue.control_version())
        assert versions[0] == versions[1], "control_version changed without a control write"
        queue.cancel(job.id)
        versions.append(queue.control_version())
        queue.pause("mail", by="ann")
        versions.append(queue.control_version())
        queue.command(A, "quiet")
        versions.append(queue.control_version())
        assert len(set(versions[1:])) == 4, f"cancel, pause and command gave {versions[1:]}"

    @law(Capability.LEASES, Capability.CONTROL)
    def test_control_reaches_all_instances(self, bench: QueueBench) -> None:
        """``control_version`` changes for every instance, and each takes commands."""
        queue = bench.open_leased()
        queue.announce(WorkerInfo(id=A, started_at=bench.clock.now()))
        other = bench.reopen_leased()
        before = queue.control_version()
        assert other.command(A, "quiet"), "another instance does not know an announced worker"
        assert queue.control_version() != before, "another instance's command was not noticed"
        words = queue.commands(A)
        assert words == ["quiet"], f"another instance left quiet, {words} was taken"
