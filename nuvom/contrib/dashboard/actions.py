"""Everything that changes something: the functions of all forms, and what the API shares with them.

``perform`` is the only way to write: it checks the right, records who does what, and does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from msgspec.structs import replace

from nuvom.cli.project import known_queues
from nuvom.contrib.dashboard.problems import HttpError
from nuvom.contrib.dashboard.visit import Done, whole
from nuvom.core.clock import SYSTEM_CLOCK
from nuvom.core.ids import new_id
from nuvom.core.views import AuditEntry
from nuvom.errors import (
    FailureNotFound,
    JobNotFound,
    NuvomError,
    QueueNotFound,
    Refused,
    WorkerNotFound,
    plural,
)
from nuvom.inspection.search import Found, parse_search
from nuvom.inspection.views import short_id
from nuvom.scheduler.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nuvom.contrib.dashboard.visit import Visit
    from nuvom.core.record import JobSnapshot
    from nuvom.inspection.search import Search

T = TypeVar("T")
CHUNK = 1000
_THE_END = Found([], None, is_partial=False, looked_at=0)
_PAUSE_SECS = 0.05  # between two chunks, for the workers to write
_MOST_TARGET = 200  # characters of a target that the audit keeps


class _Verb(NamedTuple):
    """An action on jobs: what people read of it, before and after."""

    done: str
    one_done: str


_VERBS = {
    "retry": _Verb("{} will run again", "The job will run again."),
    "cancel": _Verb("{} cancelled", "The job was cancelled."),
    "discard": _Verb("{} discarded", "The job was discarded."),
}


# ---- the only way to write ------------------------------------------------------------------


def perform(
    visit: Visit, action: str, target: str, steps: Iterable[Callable[[], bool]]
) -> AuditEntry:
    """Do something that changes the store, if the person may, and record it.

    Args:
        action: The name of a right.
        target: What it is done to, for those who read the record.
        steps: Each returns False if it left something as it is, since that has changed meanwhile.
    Returns: the record with the counts.
    Raises: HttpError (403); NuvomError: the only step has failed.
    """
    return perform_on(visit, action, target, chunks=([step] for step in steps), act=_taken)


def _taken(steps: Sequence[Callable[[], bool]]) -> list[bool]:
    return [step() for step in steps]


def perform_on(
    visit: Visit,
    action: str,
    target: str,
    *,
    chunks: Iterable[Sequence[T]],
    act: Callable[[Sequence[T]], Sequence[bool]],
) -> AuditEntry:
    """Do as ``perform`` with many things, chunk by chunk, so that workers get to write between."""
    visit.require(action)
    entry = AuditEntry(
        id=new_id(),
        at=visit.now,
        actor=visit.who,
        source=visit.source,
        action=action,
        target=target[:_MOST_TARGET],
        note="not finished",
    )
    control, tally = visit.runtime.control, _Tally()
    control.record_audit(entry)
    note = entry.note
    try:
        for chunk in chunks:
            tally.add(chunk, act)
            if len(chunk) >= CHUNK:
                SYSTEM_CLOCK.sleep(_PAUSE_SECS)
        note = "" if tally.error is None else tally.error.what
    finally:  # what was done is recorded, even if the rest could not be found
        entry = replace(entry, note=note, **tally.counts)
        control.record_audit(entry)
    if tally.error is not None and entry.asked == 1:
        raise tally.error
    return entry


class _Tally:
    """Counts what was done; ``error`` is the first that there was."""

    def __init__(self) -> None:
        self.error: NuvomError | None = None
        self._asked = self._done = self._failed = 0

    def add(self, chunk: Sequence[T], act: Callable[[Sequence[T]], Sequence[bool]]) -> None:
        try:
            results = act(chunk)
        except NuvomError as error:
            self.error = self.error or error
            self._asked += len(chunk)
            self._failed += len(chunk)
        else:
            self._asked += len(results)
            self._done += sum(results)

    @property
    def counts(self) -> dict[str, int]:
        skipped = self._asked - self._done - self._failed
        found = {"asked": self._asked, "done": self._done}
        return {**found, "skipped": skipped, "failed": self._failed}


# ---- jobs -----------------------------------------------------------------------------------


def change_seen(visit: Visit, do: str, seen: Sequence[JobSnapshot]) -> list[bool]:
    """Retry, cancel or discard jobs, each only if it is still as it was seen."""
    control = visit.runtime.control
    call = {
        "retry": control.retry_seen,
        "cancel": control.cancel_seen,
        "discard": control.discard_seen,
    }[do]
    return call(seen)


def change_job(visit: Visit, do: str, job_id: str, epoch: int | None = None) -> AuditEntry:
    """Retry, cancel or discard one job.

    Args:
        epoch: The ``lease_epoch`` that the person has seen; None for whatever it is now.
    Raises: HttpError; JobNotFound, CapabilityMissing.
    """
    visit.require(do)
    seen = visit.inspector.snapshot(job_id)
    is_current = epoch in (None, seen.record.lease_epoch)
    return perform(visit, do, job_id, [lambda: is_current and change_seen(visit, do, [seen])[0]])


def job_form(do: str) -> Callable[[Visit], Done]:
    """Return the function of ``POST /jobs/{id}/retry`` and the like."""

    def act(visit: Visit) -> Done:
        job_id = visit.named("id")
        entry = change_job(visit, do, job_id, _number(visit, "epoch"))
        if not entry.done:
            return Done(f"Nothing was done: {_why_not(visit, do, job_id)}")
        return Done(_VERBS[do].one_done, visit.url("/jobs") if do == "discard" else "")

    return act


def _why_not(visit: Visit, do: str, job_id: str) -> str:
    try:
        now = visit.inspector.snapshot(job_id)
    except JobNotFound:
        return "the job is gone."
    if now.record.lease_epoch != _number(visit, "epoch"):
        return f"the job has changed since you saw it, and is {now.status} now."
    if do == "retry" and now.status.is_final and now.status != "SUCCESS":
        return "another job has its unique key, or it was moved to another store."
    return f"the job is {now.status}."


def duplicate(visit: Visit) -> Done:
    """Store a new job with the same arguments."""
    job_id = visit.named("id")
    visit.require("repeat")
    new = repeat(visit, visit.inspector.snapshot(job_id))
    return Done(f"Enqueued as a new job, {short_id(new)}.", visit.url(f"/jobs/{new}"))


def repeat(visit: Visit, old: JobSnapshot, **changes: Any) -> str:  # fields of a job
    """Store a new job that repeats another one, with changes; return its id."""
    made: list[str] = []

    def make() -> bool:
        made.append(visit.runtime.control.repeat(old.record, **changes))
        return True

    perform(visit, "repeat", old.record.id, [make])
    return made[0]


def act_on_jobs(visit: Visit) -> Done:
    """Retry, cancel or discard the jobs that were selected, or all that match a search."""
    do = visit.form.get("do", "")
    if do not in _VERBS:
        raise HttpError(422, f'There is no action "{do}".')
    visit.require(do)
    if "q" in visit.form:
        return Done(told(do, _change_matching(visit, do)))
    epochs = dict(map(_id_and_epoch, visit.form.getlist("id")))

    def act(chunk: Sequence[str]) -> list[bool]:
        found = [_found(visit, job_id) for job_id in chunk]
        seen = [one for one in found if one and one.record.lease_epoch == epochs[one.record.id]]
        ids = [one.record.id for one in seen]
        done = dict(zip(ids, change_seen(visit, do, seen), strict=True))
        return [done.get(job_id, False) for job_id in chunk]

    ids = tuple(epochs)
    return Done(told(do, perform_on(visit, do, _heads(ids), chunks=_chunks(ids), act=act)))


def _change_matching(visit: Visit, do: str) -> AuditEntry:
    """Change all jobs that match a search and were there when the person looked."""
    search, upto = parse_search(visit.form.get("q", "")), visit.form.get("upto", "")
    if not upto:
        raise HttpError(422, "The form has to send the id of the newest job, as upto.")
    newest = visit.inspector.snapshot(upto)
    target = f"{search.text or 'all jobs'} up to {upto}"

    def act(chunk: Sequence[JobSnapshot]) -> list[bool]:
        return change_seen(visit, do, chunk)

    return perform_on(visit, do, target, chunks=_matching(visit, search, newest), act=act)


def _matching(visit: Visit, search: Search, newest: JobSnapshot) -> Iterator[list[JobSnapshot]]:
    """Yield the jobs that match, from ``newest`` on back."""
    inspector = visit.inspector

    def behind(before: str) -> Found:
        return inspector.search(search, before=before, limit=CHUNK)

    fits = search.fits(newest, visit.now, lambda: inspector.named_arguments(newest.record))
    page, jobs = behind(newest.record.id), [newest] if fits else []
    while jobs or page.jobs or page.next_before:
        # Look behind a job before it may be gone: the place in the list is that job's.
        following = behind(page.next_before) if page.next_before else _THE_END
        yield [*jobs, *page.jobs]
        page, jobs = following, []


def _found(visit: Visit, job_id: str) -> JobSnapshot | None:
    try:
        return visit.inspector.snapshot(job_id)
    except JobNotFound:
        return None


def _id_and_epoch(text: str) -> tuple[str, int]:
    job_id, _, given = text.rpartition(".")
    epoch = whole(given)
    if not job_id or epoch is None:
        raise HttpError(422, f"A job is selected as ID.EPOCH, not as {text[:100]}.")
    return job_id, epoch


def _heads(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")  # noqa: PLR2004


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + CHUNK] for at in range(0, len(items), CHUNK))


def told(do: str, entry: AuditEntry) -> str:
    """Return what happened to jobs, in a sentence: ``3 jobs cancelled, 1 skipped ...``."""
    parts = [_VERBS[do].done.format(plural(entry.done, "job"))]
    if entry.skipped:
        parts.append(f"{entry.skipped:,} skipped, having changed meanwhile")
    if entry.failed:
        parts.append(f"{entry.failed:,} failed: {entry.note.rstrip('.')}")
    return f"{'; '.join(parts)}."


# ---- failures of one cause ------------------------------------------------------------------


def group_form(do: str) -> Callable[[Visit], Done]:
    """Return the function of ``POST /errors/{fingerprint}/retry`` or ``discard``."""
    return lambda visit: Done(told(do, change_group(visit, do, visit.named("fingerprint"))))


def change_group(visit: Visit, do: str, fingerprint: str) -> AuditEntry:
    """Retry or discard all failures of one cause. Raises: FailureNotFound: there are none."""
    visit.require(do)
    ids = visit.inspector.failed_ids(fingerprint)
    if not ids:
        raise FailureNotFound(fingerprint, ())

    def act(chunk: Sequence[str]) -> list[bool]:
        found = [_found(visit, job_id) for job_id in chunk]
        done = change_seen(visit, do, [one for one in found if one is not None])
        return [*done, *[False] * (len(chunk) - len(done))]

    return perform_on(visit, do, fingerprint, chunks=_chunks(ids), act=act)


# ---- queues, workers and schedules ------------------------------------------------------------


def _queue(visit: Visit) -> str:
    """Return the queue of the path. Raises: QueueNotFound."""
    name, known = visit.named("name"), known_queues(visit.inspector, visit.runtime.settings)
    if name not in known:
        raise QueueNotFound(name, known)
    return name


def pause_queue(visit: Visit) -> Done:
    """Start no more jobs of a queue."""
    visit.require("pause")
    name = _queue(visit)

    def pause() -> bool:
        visit.runtime.control.pause(name, visit.by)
        return True

    perform(visit, "pause", name, [pause])
    return Done(f"Queue {name} is paused: its jobs wait until it is resumed.")


def resume_queue(visit: Visit) -> Done:
    """Start jobs of a queue again."""
    entry = resume(visit)
    name = visit.named("name")
    return Done(f"Queue {name} is resumed." if entry.done else f"Queue {name} was not paused.")


def resume(visit: Visit) -> AuditEntry:
    """Start jobs of the queue of the path again; skipped if it was not paused."""
    visit.require("pause")
    name = _queue(visit)
    target = f"{name} (resume)"
    return perform(visit, "pause", target, [lambda: visit.runtime.control.resume(name)])


def purge(visit: Visit, confirmed: str) -> AuditEntry:
    """Remove the waiting jobs of the queue of the path; the record counts them.

    Args:
        confirmed: The name of the queue once more.
    """
    visit.require("purge")
    name, control = _queue(visit), visit.runtime.control
    if confirmed != name:
        raise HttpError(422, f'To remove its waiting jobs, type the name of the queue: "{name}".')
    return perform_on(
        visit, "purge", name, chunks=[[name]], act=lambda _: [True] * control.purge(name)
    )


_WORKER_TEXTS = {
    "quiet": "takes no more jobs, and finishes those it has",
    "resume": "takes jobs again",
    "stop": "finishes its jobs and stops",
}


def worker_form(word: str) -> Callable[[Visit], Done]:
    """Return the function of ``POST /workers/{id}/quiet``, ``resume`` or ``stop``."""

    def tell(visit: Visit) -> Done:
        tell_worker(visit, word)
        return Done(f"Worker {short_id(visit.named('id'))} {_WORKER_TEXTS[word]}.")

    return tell


def tell_worker(visit: Visit, word: str) -> None:
    """Send a command to the worker of the path. Raises: WorkerNotFound, Refused."""
    visit.require("worker")
    worker_id, command = visit.named("id"), visit.runtime.control.command
    found = [one for one in visit.inspector.processes() if one.id == worker_id]
    if not found:
        raise WorkerNotFound(worker_id)
    if not found[0].obeys(word):
        what = f"{short_id(worker_id)} is a scheduler, which runs no jobs and only knows stop"
        raise Refused(what, "To keep a schedule from firing, pause the schedule.")
    target = f"{worker_id} ({word})"
    if not perform(visit, "worker", target, [lambda: command(worker_id, word)]).done:
        raise WorkerNotFound(worker_id)


def _schedule(visit: Visit) -> Schedule:
    """Return the schedule of the path. Raises: ScheduleNotFound."""
    visit.require("schedule")
    return Schedule(visit.inspector.schedule(visit.named("name")), visit.runtime)


def run_schedule(visit: Visit) -> Done:
    """Enqueue a job of a schedule now."""
    job_id = run_schedule_now(visit)
    return Done(f"Enqueued job {short_id(job_id)} of schedule {visit.named('name')}.")


def run_schedule_now(visit: Visit) -> str:
    """Enqueue a job of the schedule that the path names; return the job's id."""
    handle, made = _schedule(visit), list[str]()

    def run() -> bool:
        made.append(handle.run_now().id)
        return True

    perform(visit, "schedule", f"{handle.name} (run)", [run])
    return made[0]


def pause_schedule(visit: Visit) -> Done:
    """Stop a schedule from firing."""
    handle = _schedule(visit)

    def pause() -> bool:
        handle.pause(by=visit.by)
        return True

    perform(visit, "schedule", f"{handle.name} (pause)", [pause])
    return Done(f"Schedule {handle.name} is paused.")


def resume_schedule(visit: Visit) -> Done:
    """Let a schedule fire again."""
    handle = _schedule(visit)

    def resume() -> bool:
        was_paused = handle.record.paused_by is not None
        handle.resume()
        return was_paused

    is_done = perform(visit, "schedule", f"{handle.name} (resume)", [resume]).done
    return Done(f"Schedule {handle.name} {'is resumed' if is_done else 'was not paused'}.")


def _number(visit: Visit, name: str) -> int:
    """Return a whole number that a form has sent. Raises: HttpError."""
    found = whole(visit.form.get(name, ""))
    if found is None:
        raise HttpError(422, f"The form has to send a whole number as {name}.")
    return found
