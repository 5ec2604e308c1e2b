"""The conformance kit on Nuvom's backend and on Django's own two as controls; Nuvom's options."""

from __future__ import annotations

import asyncio
from threading import Event, get_ident
from typing import Any, ClassVar
from unittest.mock import patch

import django
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend, task
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.test import SimpleTestCase, TransactionTestCase, override_settings

import nuvom
from nuvom.contrib.django import JobCancelled, JobDead, NuvomTask
from nuvom.contrib.django.conformance import TaskBackendCases, tasks
from nuvom.contrib.django.results import task_result
from nuvom.core.record import JobSnapshot, JobStatus, StoredError
from nuvom.job import Job
from nuvom.registry.registry import default_registry
from nuvom.runtime import current_runtime, reset
from nuvom.worker import Worker

NUVOM = "nuvom.contrib.django.NuvomBackend"
LIMIT_SECS = 10  # for what would never come


class Nuvom(TaskBackendCases, TransactionTestCase):
    backend = NUVOM
    retry_options: ClassVar = {
        "task_options": {"*.fail_until": {"retries": 2, "retry_delay_secs": 0}}
    }
    transaction_options: ClassVar = {"enqueue_on_commit": True}

    def setUp(self) -> None:
        reset()
        super().setUp()

    def run_tasks(self) -> None:
        Worker(current_runtime(), threads=1, burst=True).run()


class Immediate(TaskBackendCases, TransactionTestCase):
    backend = "django.tasks.backends.immediate.ImmediateBackend"
    runs_at_once = True
    survives_receivers = False


class Dummy(TaskBackendCases, TransactionTestCase):
    backend = "django.tasks.backends.dummy.DummyBackend"
    runs_tasks = False


PATTERNS = {
    "*.tasks.note": {"max_attempts": 4, "timeout": 9, "isolation": "process"},
    "*.fail": {"retrys": 3},
    "*": {"retries": 1},
}


@override_settings(
    TASKS={"default": {"BACKEND": NUVOM, "QUEUES": [], "OPTIONS": {"task_options": PATTERNS}}}
)
class Options(SimpleTestCase):
    def setUp(self) -> None:
        reset()

    def test_the_first_pattern_that_fits_a_path_counts(self) -> None:
        record = Job.load(tasks.note.using(priority=7).enqueue(1).id).record
        self.assertEqual((record.max_retries, record.timeout_secs, record.priority), (3, 9, -7))
        definition = default_registry().get(tasks.note.module_path)
        assert definition is not None
        self.assertEqual(definition.options.isolation, "process")
        self.assertEqual(Job.load(tasks.echo.enqueue().id).record.max_retries, 1)

    def test_the_decorator_takes_options(self) -> None:
        if django.VERSION < (6, 1):
            with self.assertRaises(TypeError):
                task(retries=2)(tasks.echo.func)
            made = NuvomTask(**COMMON, retries=2, backoff="linear", timeout=3)
        else:
            made = task(retries=2, backoff="linear", timeout=3)(tasks.echo.func)
        record = Job.load(made.enqueue().id).record
        self.assertEqual((record.max_retries, record.timeout_secs), (2, 3))
        self.assertEqual(record.retry and record.retry.backoff, "linear")

    def test_queue_and_priority_of_the_decorator_count_for_nuvoms_own_means(self) -> None:
        made = NuvomTask(**{**COMMON, "priority": 7, "queue_name": "mail"})
        made.using(priority=-9, queue_name="other").enqueue()
        job = nuvom.enqueue(made.module_path)
        self.assertEqual((job.record.queue, job.record.priority), ("mail", -7))

    def test_wrong_options_are_refused(self) -> None:
        wrong: list[dict[str, Any]] = [
            {"retries": -1},
            {"max_attempts": 0},
            {"max_attempts": 2, "retries": 1},
            {"isolation": "machine"},
        ]
        for one in wrong:
            with self.subTest(one), self.assertRaises(InvalidTask):
                NuvomTask(**COMMON, **one)
        with self.assertRaisesMessage(InvalidTask, 'Did you mean "retries"'):
            tasks.fail.enqueue("x")
        with self.assertRaises(InvalidTask):
            tasks.echo.using(queue_name="no such name").enqueue()

    def test_a_call_that_does_not_fit_is_refused_and_not_stored(self) -> None:
        for args in ((), (1, 2)):
            with self.assertRaisesMessage(TypeError, "note"):
                tasks.note.enqueue(*args)
        tasks.tell_context.enqueue("one word; the context comes from the worker")
        with self.assertRaises(TypeError):
            tasks.tell_context.enqueue("two", "words")
        self.assertEqual(current_runtime().queue.qsize(), 1)

    def test_a_cancelled_job_has_failed(self) -> None:
        result = tasks.echo.enqueue()
        Job.load(result.id).cancel()
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertEqual([one.exception_class for one in result.errors], [JobCancelled])

    def test_a_dead_job_has_failed(self) -> None:
        record = Job.load(tasks.echo.enqueue().id).record.replace(status=JobStatus.DEAD)
        seen = JobSnapshot(record=record, error=StoredError("WorkerDied", "it died"))
        found = task_result(tasks.echo, seen, [], alias="default", args=[], kwargs={})
        self.assertEqual(found.status, TaskResultStatus.FAILED)
        self.assertEqual([one.exception_class for one in found.errors], [JobDead])

    def test_a_job_of_no_task_of_django_is_no_result(self) -> None:
        result = tasks.echo.enqueue()
        default_registry().unregister(tasks.echo.module_path)
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result(result.id)


@override_settings(TASKS={"default": {"BACKEND": NUVOM, "OPTIONS": {"enqueue_on_commit": True}}})
class Coroutines(TransactionTestCase):
    def setUp(self) -> None:
        reset()

    async def test_neither_the_loop_nor_djangos_thread_waits_for_the_store(self) -> None:
        queue: Any = current_runtime().queue
        loop = asyncio.get_running_loop()
        begun, can_go, have_gone = asyncio.Event(), Event(), set[bool]()

        def slow(method: Any) -> Any:
            def called(*args: Any) -> Any:
                loop.call_soon_threadsafe(begun.set)
                have_gone.add(can_go.wait(LIMIT_SECS))
                return method(*args)

            return called

        async def let_go(call: Any) -> Any:
            begun.clear()
            can_go.clear()
            running = asyncio.create_task(call)
            await begun.wait()
            await sync_to_async(can_go.set)()
            return await running

        with patch.multiple(queue, enqueue=slow(queue.enqueue), get=slow(queue.get)):
            result = await let_go(tasks.echo.aenqueue(1))
            found = await let_go(default_task_backend.aget_result(result.id))
        self.assertEqual((found.args, have_gone), ([1], {True}))

    async def test_receivers_are_called_once_where_they_belong(self) -> None:
        threads: list[tuple[str, int]] = []

        def of_django(task_result: Any, **_: Any) -> None:
            threads.append((task_result.id, get_ident()))

        async def of_loop(task_result: Any, **_: Any) -> None:
            threads.append((task_result.id, get_ident()))

        task_enqueued.connect(of_django)
        task_enqueued.connect(of_loop)
        self.addCleanup(task_enqueued.disconnect, of_django)
        self.addCleanup(task_enqueued.disconnect, of_loop)
        result = await tasks.echo.aenqueue()
        django_thread = await sync_to_async(get_ident)()
        self.assertCountEqual(threads, [(result.id, django_thread), (result.id, get_ident())])

    def test_in_a_transaction_the_job_waits_for_the_commit(self) -> None:
        with transaction.atomic():
            result = async_to_sync(tasks.echo.aenqueue)()
            with self.assertRaises(TaskResultDoesNotExist):
                default_task_backend.get_result(result.id)
        self.assertEqual(default_task_backend.get_result(result.id).status, "READY")

    async def test_a_call_that_does_not_fit_is_refused_and_not_stored(self) -> None:
        with self.assertRaisesMessage(TypeError, "note"):
            await tasks.note.aenqueue()
        self.assertEqual(current_runtime().queue.qsize(), 0)


COMMON: dict[str, Any] = {
    "func": tasks.echo.func,
    "priority": 0,
    "backend": "default",
    "queue_name": "default",
    "run_after": None,
}
