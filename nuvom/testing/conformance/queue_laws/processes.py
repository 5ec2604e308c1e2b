"""Several processes on one store, some of which are killed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nuvom.core.record import JobStatus
from nuvom.queue_backends.base import Capability
from nuvom.testing.conformance import child as child_actions
from nuvom.testing.conformance.law import law
from nuvom.testing.conformance.queue_bench import A, B
from nuvom.testing.conformance.queue_kit import QueueKit

if TYPE_CHECKING:
    from nuvom.core.record import JobRecord
    from nuvom.testing.conformance.queue_bench import QueueBench

_PROCESSES = 8
_SHORT_LEASE_SECS = 1.0  # for backends that learn of a death by the lease alone


class Processes(QueueKit):
    """They apply where ``process_factory`` says how another process opens the store."""

    # ---- racing ---------------------------------------------------------------------------

    @law()
    def test_processes_never_share_a_job(self, bench: QueueBench) -> None:
        """Processes that take jobs at the same time never get the same one, and miss none."""
        queue = bench.open(real_time=True)
        is_leased = Capability.LEASES in queue.capabilities
        children = [
            bench.child(
                child_actions.claim_all, owner=f"worker-{number}", batch=5, rounds=self.race_jobs
            )
            if is_leased
            else bench.child(child_actions.pop_all, batch=5, rounds=self.race_jobs)
            for number in range(_PROCESSES)
        ]
        jobs = [bench.job() for _ in range(self.race_jobs)]
        queue.enqueue_many(jobs)
        for child in children:
            child.expect("ready")
        for child in children:
            child.go()
        taken = [job_id for child in children for job_id in child.rest()]
        twice = [job_id for job_id, count in Counter(taken).items() if count > 1]
        assert twice == [], f"{len(twice)} of {len(jobs)} jobs were handed out twice"
        missing = {job.id for job in jobs} - set(taken)
        assert not missing, f"{len(missing)} of {len(jobs)} jobs were not handed out"

    @law(Capability.UNIQUE)
    def test_processes_that_race_for_a_key_agree(self, bench: QueueBench) -> None:
        """Of processes that enqueue with one key one stores, and all name its job."""
        bench.open(real_time=True)
        children = [
            bench.child(child_actions.enqueue_unique, key="once") for _ in range(_PROCESSES)
        ]
        for child in children:
            child.expect("ready")
        for child in children:
            child.go()
        answers = [child.hear() for child in children]
        stored = [job_id for job_id, existing in answers if existing is None]
        assert len(stored) == 1, f"{len(stored)} of {_PROCESSES} processes stored a job of one key"
        named = {existing for _, existing in answers if existing is not None}
        assert named == set(stored), f"the others were told {named}, not {stored}"

    # ---- kill -9 --------------------------------------------------------------------------

    @law(Capability.LEASES)
    def test_jobs_of_a_killed_worker_come_back(self, bench: QueueBench) -> None:
        """The jobs of a killed worker come back; those that had started are charged, no others."""
        queue = bench.open_leased(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        jobs = [bench.put() for _ in range(4)]
        child = bench.child(child_actions.hold, owner=A, jobs=4, started=2)
        child.start()
        held = child.hear()
        assert held == [job.id for job in jobs], f"a worker claimed {held} of four jobs"
        child.kill()
        reaped: list[JobRecord] = []

        def all_back() -> bool:
            reaped.extend(queue.reap())
            return len(reaped) >= len(held)

        bench.wait_until(all_back, "reap takes back the jobs of a killed worker")
        charges = {job.id: job.deliveries for job in reaped}
        unstarted = 0 if bench.has_start_marks else 1
        got = [charges.get(job_id) for job_id in held]
        expected = [1, 1, unstarted, unstarted]
        assert got == expected, f"charges are {got} instead of {expected}"
        again = {job.id for job in queue.claim(9, B, suspects=1)}
        again |= {job.id for job in queue.claim(9, "worker-3")}
        assert set(held) == again, "jobs that came back are not handed out"

    @law(Capability.LEASES)
    def test_a_killed_worker_is_not_alive(self, bench: QueueBench) -> None:
        """A worker whose process was killed is not shown as alive for longer than its lease."""
        queue = bench.open_leased(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        child = bench.child(child_actions.stay, owner=A)
        child.start()
        child.expect(A)
        states = [(one.id, one.state) for one in queue.workers()]
        assert states == [(A, "alive")], f"workers are {states} while {A} lives"
        child.kill()
        bench.wait_until(
            lambda: all(one.state == "silent" for one in queue.workers()),
            "a killed worker is shown as silent or not at all",
        )

    @law(Capability.LEASES)
    def test_a_job_that_kills_processes_ends_dead(self, bench: QueueBench) -> None:
        """A job is DEAD once ``max_deliveries`` processes were killed while it ran."""
        queue = bench.open_leased(real_time=True, lease_secs=_SHORT_LEASE_SECS, max_deliveries=2)
        job = bench.put()
        fate: list[JobStatus] = []
        for owner in (A, B):
            child = bench.child(child_actions.hold, owner=owner, jobs=1, started=1)
            child.start()
            held = child.hear()
            assert held == [job.id], f"a worker claimed {held} instead of {job.id}"
            child.kill()
            seen = len(fate)

            def is_back(seen: int = seen) -> bool:
                fate.extend(one.status for one in queue.reap())
                return len(fate) > seen

            bench.wait_until(is_back, "reap takes back the job of a killed worker")
        expected = [JobStatus.PENDING, JobStatus.DEAD]
        assert fate == expected, f"after one and two kills the job is {fate}"

    @law(Capability.LEASES)
    def test_a_settled_job_survives_a_kill(self, bench: QueueBench) -> None:
        """What was settled when a process is killed stays settled."""
        queue = bench.open_leased(real_time=True, lease_secs=_SHORT_LEASE_SECS)
        job = bench.put()
        child = bench.child(child_actions.settle_one, owner=A)
        child.start()
        said = child.hear()
        assert said == [job.id, [True]], f"a worker claimed and settled {said}"
        child.kill()
        bench.end_leases()
        reaped, again = queue.reap(), queue.claim(1, B)
        assert reaped == again == [], f"a settled job came back: {reaped}, {again}"

    @law()
    def test_accepted_jobs_survive_a_kill(self, bench: QueueBench) -> None:
        """Every job whose ``enqueue`` had returned is there after its process was killed."""
        queue = bench.open(real_time=True)
        child = bench.child(child_actions.produce, most=100_000)
        child.start()
        accepted = [child.hear() for _ in range(30)]
        child.kill()
        accepted += child.rest()
        present: set[str] = set()
        for _ in accepted:  # bounded, for a queue that never gets empty
            batch = queue.pop_batch(500)
            present |= {job.id for job in batch}
            if not batch:
                break
        missing = set(accepted) - present
        assert not missing, f"{len(missing)} of {len(accepted)} accepted jobs are gone"

    @law(Capability.BULK)
    def test_a_bulk_survives_a_kill_whole_or_not_at_all(self, bench: QueueBench) -> None:
        """A bulk whose process is killed meanwhile is stored whole or not at all."""
        queue = bench.open(real_time=True)
        size = 70
        child = bench.child(child_actions.produce_bulks, most=10_000, size=size)
        child.start()
        accepted = sum(child.hear() for _ in range(3))
        child.kill()
        accepted += sum(child.rest())
        present = queue.qsize()
        assert present % size == 0, f"{present} jobs are there, no multiple of {size}"
        assert present >= accepted, f"{accepted - present} accepted jobs are gone"
