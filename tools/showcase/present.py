"""What the shop is doing now: workers with jobs, jobs that wait, schedules, and what people did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from nuvom._version import __version__
from nuvom.core.clock import Clock
from nuvom.core.ids import REPEATS, following_id, timed_id
from nuvom.core.record import PARENT, Attempt, JobRecord, JobStatus, StoredError
from nuvom.core.transitions import died_error
from nuvom.core.views import AuditEntry, WorkerInfo
from nuvom.discovery.manifest import release_of
from nuvom.scheduler import planner
from nuvom.scheduler.record import ScheduleChange, ScheduleRecord, ScheduleRule
from nuvom.scheduler.trigger import fire_after, fires_until, first_fire
from tests.lab.past import PastJob
from tools.showcase import history
from tools.showcase.failures import CLOSING, FAULTS, Fault
from tools.showcase.history import DAY, HOUR, MINUTE, Shop
from tools.showcase.shop import GONE, HABITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from nuvom.config.settings import Settings
    from nuvom.queue_backends.leased import LeasedJobQueue

ZONE = "Europe/Berlin"


class StillClock(Clock):
    """A clock that stands, so that all that is made or seen with it is of one moment.

    Attributes:
        ago: How many seconds it is behind that moment.
    """

    def __init__(self) -> None:
        self._now, self._monotonic, self.ago = super().now(), super().monotonic(), 0.0

    def now(self) -> float:
        """Return the moment."""
        return self._now - self.ago

    def monotonic(self) -> float:
        """Return the moment."""
        return self._monotonic - self.ago


# ---- workers -------------------------------------------------------------------------------


class Post(NamedTuple):
    """A worker: where it is, what it serves, and since when."""

    host: str
    pid: int
    slots: int
    queues: tuple[str, ...]
    up_secs: float
    silent_secs: float = 0.0


POSTS = (
    Post("shop-1", 4121, 12, (), 3 * DAY + 4 * HOUR),
    Post("shop-1", 4122, 8, ("images",), 34 * MINUTE),
    Post("shop-2", 911, 12, ("search", "default", "images"), 3 * DAY + 4 * HOUR),
    Post("shop-2", 912, 16, ("mail", "billing"), 3 * DAY + 4 * HOUR),
    Post("shop-3", 388, 4, (), 9 * DAY, 94.0),
)
ALL, IMAGES, SEARCH, MAIL, LOST = range(len(POSTS))


def worker_ids(rng: Random, now: float) -> list[str]:
    """Return ids for the workers."""
    return [timed_id(now - one.up_secs, f"{rng.getrandbits(72):018x}") for one in POSTS]


def announced(settings: Settings, ids: list[str], now: float) -> Iterator[tuple[WorkerInfo, float]]:
    """Yield each worker as it announces itself, and for how many seconds it has been silent."""
    release = release_of(settings)
    for worker_id, one in zip(ids, POSTS, strict=True):
        info = WorkerInfo(
            id=worker_id,
            pid=one.pid,
            host=one.host,
            version=__version__,
            queues=one.queues,
            slots=one.slots,
            async_slots=100,
            processes=one.slots,
            started_at=now - one.up_secs,
            release=release if not one.silent_secs else "code-91d0e7aa",
            scheduler=not one.queues and not one.silent_secs,
        )
        yield info, one.silent_secs


# ---- jobs that run -------------------------------------------------------------------------

# Task, worker, for how many seconds, and the progress that it reports.
_Report = tuple[float, float, str]
RUNNING: tuple[tuple[str, int, float, _Report | None], ...] = (
    ("images.remove_background", ALL, 372.0, None),
    ("reports.export_orders", ALL, 51.0, (18_400.0, 29_700.0, "writing orders")),
    ("billing.make_invoice", ALL, 0.8, None),
    ("partners.push_order", ALL, 0.6, None),
    ("search.index_product", ALL, 0.3, None),
    ("billing.capture_payment", ALL, 1.1, None),
    ("images.make_thumbnails", IMAGES, 3.4, None),
    ("images.make_thumbnails", IMAGES, 2.9, None),
    ("images.remove_background", IMAGES, 7.8, (3.0, 5.0, "edges")),
    ("images.make_thumbnails", IMAGES, 1.7, None),
    ("images.make_thumbnails", IMAGES, 1.2, None),
    ("images.remove_background", IMAGES, 4.1, (1.0, 5.0, "mask")),
    ("images.make_thumbnails", IMAGES, 0.6, None),
    ("images.make_thumbnails", IMAGES, 0.3, None),
    ("images.make_thumbnails", SEARCH, 2.6, None),
    ("images.make_thumbnails", SEARCH, 1.4, None),
    ("partners.pull_inventory", SEARCH, 1.2, (12.0, 40.0, "pages")),
    ("search.index_product", SEARCH, 0.2, None),
    ("search.index_product", SEARCH, 0.1, None),
    ("mail.send_confirmation", MAIL, 0.7, None),
    ("mail.send_tracking", MAIL, 0.5, None),
    ("mail.send_confirmation", MAIL, 0.4, None),
    ("mail.send_tracking", MAIL, 0.2, None),
    ("billing.capture_payment", MAIL, 0.9, None),
)


def start_jobs(queue: LeasedJobQueue, clock: StillClock, shop: Shop, ids: list[str]) -> None:
    """Let the workers claim what they run. No other job may be ready yet."""
    for task, worker, secs, report in RUNNING:
        call = HABITS[task].call(shop.rng)
        record = shop.record(task, shop.now - secs - 0.4, call)
        queue.enqueue(record)
        clock.ago = secs
        (job,) = queue.claim(1, ids[worker], [record.queue])
        clock.ago = 0.0
        queue.mark_started(job)
        if report is not None:
            queue.report_progress(job, *report)


# ---- jobs that wait ------------------------------------------------------------------------

# Task, how many, and for how many seconds the oldest has waited.
READY = (
    ("images.make_thumbnails", 139, 48.0),
    ("images.read_metadata", 41, 22.0),
    ("mail.send_confirmation", 21, 3.1),
    ("mail.send_tracking", 11, 2.2),
    ("billing.capture_payment", 3, 4.0),
    ("search.index_product", 5, 2.0),
    ("reports.export_orders", 36, 7_440.0),
)
RETRYING = (
    ("partners.pull_inventory", FAULTS[2], 11),
    ("mail.send_tracking", FAULTS[3], 7),
)
SCHEDULED = (("cart.remind", 11, 5 * HOUR), ("mail.send_tracking", 3, 2 * HOUR))


def waiting(shop: Shop) -> Iterator[PastJob]:
    """Yield jobs that wait for a worker, for their time, for a retry, or for their task."""
    rng, now = shop.rng, shop.now
    for task, count, secs in READY:
        for number in range(count):
            at = now - secs * (1 - number / count)
            yield PastJob(shop.record(task, at, HABITS[task].call(rng)), "ready")
    for task, count, secs in SCHEDULED:
        for number in range(count):
            run_at = now + 28 + secs * (number / count) ** 2
            call = HABITS[task].call(rng)
            record = shop.record(task, now - rng.random() * HOUR, call, run_at=run_at)
            yield PastJob(record, "scheduled")
    for task, fault, count in RETRYING:
        for number in range(count):
            yield _retrying(shop, task, fault, 7 + 9.0 * number)
    for _ in range(12):
        record = shop.record("images.read_metadata", now - 3 * HOUR * rng.random(), {})
        kwargs = msgspec.Raw(msgspec.msgpack.encode({"key": f"p/{rng.randrange(9_999)}.png"}))
        yield PastJob(
            record.replace(func_name=GONE, kwargs=kwargs),
            "PARKED",
            finished_at=record.created_at + 1,
            error=StoredError("UnknownTask", "no such task here"),
        )


def _retrying(shop: Shop, task: str, fault: Fault, in_secs: float) -> PastJob:
    call = HABITS[task].call(shop.rng)
    values = {"partner": "kestrel", **call}
    error = fault.error(shop.root, values)
    delays = [30.0] * shop.rng.randrange(3)
    began = shop.now - 25 - 31 * len(delays) - 20 * shop.rng.random()
    queue = HABITS[task].queue
    worker = shop.worker(queue)
    past = history.attempts(began, 1.0, delays, error, worker=worker, outcome="retry")
    record = shop.record(task, began - 1, call, run_at=shop.now + in_secs)
    return history.of_attempts(record, "retrying", past)


def cancelled(shop: Shop) -> Iterator[PastJob]:
    """Yield jobs that people cancelled, or that expired."""
    for number in range(13):
        at = shop.now - shop.rng.random() * 20 * HOUR
        task = "cart.remind" if number % 3 else "mail.reset_password"
        record = shop.record(task, at, HABITS[task].call(shop.rng))
        expired = StoredError("JobExpired", "expired: it had not started within 600 s")
        error = None if number % 3 else expired
        yield PastJob(record, "CANCELLED", finished_at=at + 600, error=error)


def relatives(shop: Shop) -> Iterator[PastJob]:
    """Yield a job with three that its code enqueued."""
    at = shop.now - 4 * MINUTE
    call = {"partner": "oakline", "page": 1}
    parent = shop.record("partners.pull_inventory", at, call)
    worker = shop.worker("default")
    yield _succeeded(parent, 1.2, worker, 200)
    for number in range(3):
        values = {"product_id": 88_120 + number, "languages": ["en", "de", "fr"]}
        record = shop.record("search.index_product", at + 1.2, values)
        job_id = following_id(parent.id, "child", number)
        record = record.replace(id=job_id, headers={PARENT: parent.id})
        yield _succeeded(record, 0.2 + 0.1 * number, worker, 3)


def _succeeded(record: JobRecord, secs: float, worker: str, result: object) -> PastJob:
    started_at = max(record.created_at, record.run_at) + 0.3
    return PastJob(
        record,
        "SUCCESS",
        started_at=started_at,
        finished_at=started_at + secs,
        worker=worker,
        result=msgspec.msgpack.encode(result),
    )


# ---- schedules -----------------------------------------------------------------------------


class Plan(NamedTuple):
    """A schedule: its name, its task, when it fires, and what it calls the task with.

    Attributes:
        failed: Which of its last ten jobs failed; 0 is the latest.
    """

    name: str
    task: str
    rule: ScheduleRule
    call: dict[str, Any]
    secs: float
    failed: tuple[int, ...] = ()
    queue: str = "default"


_CLOSING = {
    "day": "2026-11-29",
    "currency": "EUR",
    "format": "xlsx",
    "skip_refunds": False,
    "upload_token": "tok_5b1f",
}
_PLANS = (
    Plan(
        "inventory",
        "partners.pull_inventory",
        ScheduleRule(interval=900.0),
        {"partner": "northwind"},
        *(1.3, (6,)),
    ),
    Plan(
        "rates",
        "billing.load_rates",
        ScheduleRule(cron="5 * * * *"),
        {"source": "ecb"},
        *(0.8, (), "billing"),
    ),
    Plan(
        "stock",
        "reports.stock_levels",
        ScheduleRule(cron="0 5,17 * * *", timezone_name=ZONE),
        {"warehouse": "NL-2"},
        *(43.0, (0, 3), "reports"),
    ),
    Plan(
        "digest",
        "mail.send_digest",
        ScheduleRule(cron="0 7 * * *", timezone_name=ZONE),
        {"day": "yesterday"},
        *(2.1, (), "mail"),
    ),
    Plan(
        "sitemap",
        "search.write_sitemap",
        ScheduleRule(cron="30 3 * * *", timezone_name=ZONE),
        {"site": "shop.example"},
        *(31.0, (), "search"),
    ),
    Plan(
        "purge-carts",
        "cart.purge",
        ScheduleRule(cron="0 4 * * *", timezone_name=ZONE),
        {"older_than_days": 30},
        *(6.4, (7,)),
    ),
    Plan(
        "rebuild-index",
        "search.rebuild_index",
        ScheduleRule(cron="0 2 * * SUN", timezone_name=ZONE),
        {"language": "de"},
        *(1_260.0, (), "search"),
    ),
    Plan(
        "payouts",
        "billing.pay_suppliers",
        ScheduleRule(cron="0 9 * * FRI", timezone_name=ZONE),
        {"currency": "EUR"},
        *(77.0, (), "billing"),
    ),
)


def _plans(now: float) -> Iterator[Plan]:
    """Yield the schedules; when two of them fire depends on the time."""
    yield from _PLANS
    hour = int((now - 1.4 * HOUR) % DAY // HOUR)  # the day was closed a while ago, and failed
    yield Plan(
        "close-day",
        "reports.close_day",
        ScheduleRule(cron=f"0 {hour} * * *"),
        _CLOSING,
        *(540.0, (0, 1), "reports"),
    )
    yield Plan(
        "winter-sale",
        "mail.send_campaign",
        ScheduleRule(at=(now + 3 * DAY) // DAY * DAY + 8 * HOUR),
        {"name": "winter", "segment": "returning"},
        *(0.0, (), "mail"),
    )


PAUSED = "winter-sale"


class Planned(NamedTuple):
    """Schedules to store, the jobs of their last fires, and the job that is worth a look."""

    changes: list[ScheduleChange]
    jobs: list[PastJob]
    shown: PastJob


def planned(shop: Shop) -> Planned:
    """Return the schedules with what has become of them."""
    changes, jobs = list[ScheduleChange](), list[PastJob]()
    for plan in _plans(shop.now):
        fired, last = _fired(shop, plan)
        if plan.name == PAUSED:
            fired = planner.paused(fired, "maria", shop.now - 2 * DAY).after or fired
        changes.append(ScheduleChange(plan.name, 0, fired))
        jobs += last
        if plan.name == "close-day":
            closing = last[-1]
    old = closing.record
    edited = old.replace(
        id=following_id(old.id, REPEATS, 0),
        created_at=shop.now - 9 * MINUTE,
        kwargs=msgspec.Raw(msgspec.msgpack.encode({**_CLOSING, "skip_refunds": True})),
        headers=None,
        retried_from=old.id,
    )
    jobs.append(PastJob(edited, "ready"))
    return Planned(changes, jobs, closing)


def _fired(shop: Shop, plan: Plan) -> tuple[ScheduleRecord, list[PastJob]]:
    """Return a schedule after its last fires, and their jobs, oldest first."""
    since = shop.now - 40 * DAY - 180
    call = msgspec.Raw(msgspec.msgpack.encode(plan.call))
    job = JobRecord("", plan.task, kwargs=call, queue=plan.queue, max_retries=3)
    schedule_id = timed_id(since, f"{shop.rng.getrandbits(72):018x}")
    schedule = ScheduleRecord(plan.name, schedule_id, plan.rule, job)
    made = planner.created(schedule, since).after or schedule
    first = first_fire(plan.rule, since)
    if first is None or first > shop.now:
        return made, []
    fires, count = fires_until(plan.rule, since, first, now=shop.now, most=10)
    jobs = [_fire(shop, plan, made, at) for at in fires]
    for number in plan.failed:
        place = len(jobs) - 1 - number
        jobs[place] = _failed_fire(shop, plan, jobs[place].record)
    next_at = fire_after(plan.rule, since, shop.now)
    recent = tuple(one.record.id for one in jobs)
    times = {"next_at": next_at, "due_at": next_at, "last_at": fires[-1]}
    return replace(made, recent=recent, fired=count, **times), jobs


def _fire(shop: Shop, plan: Plan, made: ScheduleRecord, at: float) -> PastJob:
    record = planner.job_of(made, at, at + 0.2)
    secs = plan.secs * (0.9 + 0.2 * shop.rng.random())
    return _succeeded(record, secs, shop.worker(plan.queue), 1)


def _failed_fire(shop: Shop, plan: Plan, record: JobRecord) -> PastJob:
    worker = shop.worker(plan.queue)
    if plan.name == "close-day":
        return _closing(shop, record, worker)
    fault = next((one for one in FAULTS if one.task == plan.task), FAULTS[8])
    error = fault.error(shop.root, {"partner": "northwind", **plan.call})
    began, delays = record.created_at, [5.0, 12.0]
    past = history.attempts(began, plan.secs, delays, error, worker=worker, outcome="failure")
    return history.of_attempts(record, "FAILED", past)


def _closing(shop: Shop, record: JobRecord, worker: str) -> PastJob:
    """Return the job that the pictures show: four attempts, and three ways to fail."""
    wrong = CLOSING.error(shop.root, {})
    lost = died_error(record.func_name, 1)
    refused = StoredError("ConnectionError", "[Errno 104] Connection reset by peer")
    began, past = record.created_at + 1, list[Attempt]()
    spans = (
        (448.0, 45.0, wrong, "retry"),
        (164.0, 118.0, refused, "retry"),
        (132.0, 297.0, lost, "lost"),
        (462.0, 0.0, wrong, "failure"),
    )
    for number, (secs, delay, error, outcome) in enumerate(spans, 1):
        past.append(
            Attempt(
                number=number,
                outcome=outcome,
                lease_epoch=number,
                worker=shop.workers["silent"][0] if outcome == "lost" else worker,
                started_at=began,
                finished_at=began + secs,
                error=error,
            )
        )
        began += secs + delay
    return history.of_attempts(record, JobStatus.FAILED, tuple(past))


# ---- what people did -----------------------------------------------------------------------

# Who, from where, what, to what, hours ago; asked, done, skipped.
_DEEDS = (
    ("maria", "10.8.0.14", "retry", "task:partners.pull_inventory status:FAILED", 9.1, 41, 41),
    ("jonas", "10.8.0.7", "cancel", "task:cart.remind status:PENDING after:1h", 7.4, 8, 6),
    ("maria", "10.8.0.14", "pause", "reports", 2.07, 1, 1),
    ("maria", "10.8.0.14", "schedule", "pause winter-sale", 47.9, 1, 1),
    ("jonas", "10.8.0.7", "enqueue", "reports.export_orders", 1.3, 1, 1),
    ("jonas", "10.8.0.7", "worker", "quiet shop-3 388", 0.9, 1, 1),
    ("maria", "10.8.0.14", "repeat", "reports.close_day", 0.15, 1, 1),
)


def audit(shop: Shop) -> Iterator[AuditEntry]:
    """Yield what people did, oldest first."""
    for actor, source, action, target, hours, asked, done in sorted(
        _DEEDS, key=lambda one: -one[4]
    ):
        at = shop.now - hours * HOUR
        yield AuditEntry(
            id=timed_id(at, f"{shop.rng.getrandbits(72):018x}"),
            at=at,
            actor=actor,
            source=source,
            action=action,
            target=target,
            asked=asked,
            done=done,
            skipped=asked - done,
        )
