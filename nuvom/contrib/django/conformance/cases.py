"""The cases: what a task backend of Django has to do, whatever runs the tasks."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend, task, task_backends
from django.tasks.base import TASK_REFRESH_ATTRS
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.tasks.signals import task_enqueued, task_finished, task_started
from django.test import override_settings
from django.utils import timezone

from nuvom.contrib.django.conformance import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
_READY, _RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
_SUCCESSFUL, _FAILED = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED


class BackendCase:
    """What all cases need; mixed into a class of Django's tests.

    Attributes:
        backend: Dotted path of the backend.
        options: Its ``OPTIONS``.
        runs_tasks: Whether it runs tasks at all.
        runs_at_once: Whether a task has ended when ``enqueue()`` returns.
        retry_options: ``OPTIONS`` under which ``tasks.fail_until`` has two retries without a wait;
            None: it cannot retry.
        transaction_options: ``OPTIONS`` under which a task exists only once the transaction around
            ``enqueue()`` commits; None: there are none.
        survives_receivers: Whether a receiver that raises leaves the outcome as it is.
    """

    backend: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    runs_tasks: ClassVar[bool] = True
    runs_at_once: ClassVar[bool] = False
    retry_options: ClassVar[dict[str, Any] | None] = None
    transaction_options: ClassVar[dict[str, Any] | None] = None
    survives_receivers: ClassVar[bool] = True

    def run_tasks(self) -> None:
        """Run all tasks that are due, and return when they have ended."""

    def setUp(self) -> None:
        """Use the backend under two aliases; ``other`` has the queues ``default`` and ``mail``."""
        super().setUp()  # type: ignore[misc]  # of Django's tests
        self.use(self.options)
        tasks.calls.clear()

    def use(self, options: dict[str, Any]) -> None:
        """Use the backend with these options until the end of the test."""
        common = {"BACKEND": self.backend, "OPTIONS": options}
        aliases = {
            "default": {**common, "QUEUES": []},
            "other": {**common, "QUEUES": ["default", "mail"]},
        }
        changed = override_settings(TASKS=aliases)
        changed.enable()
        self.addCleanup(changed.disable)

    def use_if_any(self, options: dict[str, Any] | None, reason: str) -> None:
        """Use these options, or skip the test if there are none."""
        if options is None:
            self.skipTest(reason)
        else:
            self.use(options)

    def need(self, *features: str) -> None:
        """Skip the test if the backend lacks one of these features."""
        for name in features:
            if not getattr(default_task_backend, f"supports_{name}", False):
                self.skipTest(f"the backend does not support {name}")

    def ended(self, result: Any) -> Any:
        """Run what is due, and return the result as it is then."""
        if not self.runs_tasks:
            self.skipTest("the backend runs no tasks")
        self.run_tasks()
        if default_task_backend.supports_get_result:
            return task_backends[result.backend].get_result(result.id)
        return result

    @contextmanager
    def receiving(self) -> Iterator[list[tuple[str, Any, Any, Any]]]:
        """Note each signal: its name, sender, status and ``sys.exc_info()[1]``."""
        found: list[tuple[str, Any, Any, Any]] = []

        def receiver_for(name: str) -> Any:
            def receive(sender: Any, task_result: Any, **_: Any) -> None:
                found.append((name, sender, task_result.status, sys.exc_info()[1]))

            return receive

        receivers = {name: receiver_for(name) for name in _SIGNALS}
        for name, signal in _SIGNALS.items():
            signal.connect(receivers[name])
        try:
            yield found
        finally:
            for name, signal in _SIGNALS.items():
                signal.disconnect(receivers[name])

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class ValidationCases(BackendCase):
    """Which tasks a backend accepts."""

    def test_a_task_must_be_a_function_of_a_module(self) -> None:
        def inner() -> None: ...

        for function in (any, inner, self.test_a_task_must_be_a_function_of_a_module):
            with self.assertRaisesMessage(InvalidTask, "module level"):
                task()(function)

    def test_a_context_must_be_the_first_argument(self) -> None:
        with self.assertRaisesMessage(InvalidTask, "first argument of 'context'"):
            task(takes_context=True)(tasks.note.func)

    def test_priorities_are_whole_and_bounded(self) -> None:
        self.need("priority")
        for priority in (-101, 101, 3.5):
            with self.assertRaises(InvalidTask):
                tasks.nothing.using(priority=priority)
        for priority in (-100, 0, 100):
            self.assertEqual(tasks.nothing.using(priority=priority).priority, priority)

    def test_run_after_must_be_aware(self) -> None:
        self.need("defer")
        with override_settings(USE_TZ=True), self.assertRaises(InvalidTask):
            tasks.nothing.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001  # it is the point

    def test_run_after_is_refused_where_it_is_unsupported(self) -> None:
        if default_task_backend.supports_defer:
            self.skipTest("the backend supports defer")
        with self.assertRaises(InvalidTask):
            tasks.nothing.using(run_after=timezone.now())

    def test_queues_that_are_not_listed_are_refused(self) -> None:
        with self.assertRaisesMessage(InvalidTask, "Queue 'slow' is not valid"):
            tasks.nothing.using(backend="other", queue_name="slow")
        self.assertEqual(tasks.nothing.using(queue_name="slow").queue_name, "slow")

    def test_a_task_is_validated_when_it_is_enqueued(self) -> None:
        changed = tasks.nothing.using(queue_name="slow")
        only = {"default": {"BACKEND": self.backend, "QUEUES": ["default"]}}
        with override_settings(TASKS=only), self.assertRaises(InvalidTask):
            changed.enqueue()

    async def test_a_task_is_validated_when_it_is_enqueued_async(self) -> None:
        changed = tasks.nothing.using(queue_name="slow")
        only = {"default": {"BACKEND": self.backend, "QUEUES": ["default"]}}
        with override_settings(TASKS=only), self.assertRaises(InvalidTask):
            await changed.aenqueue()

    def test_an_unknown_backend_is_refused(self) -> None:
        with self.assertRaises(ImproperlyConfigured):
            tasks.nothing.using(backend="no-such")

    def test_checks_find_nothing(self) -> None:
        self.assertEqual(list(default_task_backend.check()), [])


class EnqueueCases(BackendCase):
    """What ``enqueue()`` takes and returns."""

    def test_a_new_result_is_ready(self) -> None:
        if self.runs_at_once:
            self.skipTest("the backend runs tasks at once")
        result = tasks.echo.enqueue()
        self.assertEqual((result.status, result.attempts, result.errors), (_READY, 0, []))
        self.assertEqual((result.is_finished, result.worker_ids), (False, []))
        self.assertEqual((result.started_at, result.last_attempted_at), (None, None))
        self.assertIsNone(result.finished_at)
        with self.assertRaisesMessage(ValueError, "not finished"):
            result.return_value  # noqa: B018  # a property that raises

    def test_a_result_has_task_arguments_and_backend(self) -> None:
        result = tasks.echo.enqueue(1, two=[3])
        self.assertEqual((result.args, result.kwargs), ([1], {"two": [3]}))
        self.assertEqual((result.task, result.backend), (tasks.echo, "default"))
        self.assertIsInstance(result.id, str)
        self.assertLessEqual(result.enqueued_at, timezone.now())

    async def test_a_result_has_them_async(self) -> None:
        result = await tasks.echo.aenqueue(1, two=[3])
        self.assertEqual((result.args, result.kwargs), ([1], {"two": [3]}))
        self.assertEqual(result.task, tasks.echo)

    def test_arguments_become_json(self) -> None:
        result = tasks.echo.enqueue((1, 2), {"y": (None,)}, x=1.5)
        self.assertEqual((result.args, result.kwargs), ([[1, 2], {"y": [None]}], {"x": 1.5}))
        self.assertEqual(self.ended(result).return_value, [[[1, 2], {"y": [None]}], {"x": 1.5}])

    def test_arguments_are_copied(self) -> None:
        given = [1]
        result = tasks.echo.enqueue(given)
        given.append(2)
        self.assertEqual(result.args, [[1]])

    def test_what_is_no_json_is_refused(self) -> None:
        with self.receiving() as found, self.assertRaisesMessage(TypeError, "Unsupported type"):
            tasks.echo.enqueue(datetime(2030, 1, 1))  # noqa: DTZ001  # any datetime
        self.assertEqual(found, [])

    async def test_what_is_no_json_is_refused_async(self) -> None:
        with self.assertRaisesMessage(TypeError, "Unsupported type"):
            await tasks.echo.aenqueue({1, 2})

    def test_ids_differ(self) -> None:
        self.assertEqual(len({tasks.nothing.enqueue().id for _ in range(20)}), 20)

    def test_changes_of_using_are_kept(self) -> None:
        self.need("priority")
        changed = tasks.note.using(priority=7, queue_name="mail")
        result = changed.enqueue(1)
        self.assertEqual(result.task, changed)
        self.assertEqual(self.ended(result).task, changed)


class OutcomeCases(BackendCase):
    """How tasks end."""

    def test_a_task_that_returns_is_successful(self) -> None:
        result = self.ended(tasks.echo.enqueue("a"))
        self.assertEqual((result.status, result.is_finished), (_SUCCESSFUL, True))
        self.assertEqual((result.return_value, result.errors), ([["a"], {}], []))
        self.assertEqual((result.attempts, len(result.worker_ids)), (1, 1))

    def test_none_is_a_return_value(self) -> None:
        self.assertIsNone(self.ended(tasks.nothing.enqueue()).return_value)

    def test_return_values_become_json(self) -> None:
        self.assertEqual(self.ended(tasks.return_tuple.enqueue()).return_value, [1, {"a": [2]}])

    def test_times_are_in_order(self) -> None:
        result = self.ended(tasks.nothing.enqueue())
        self.assertLessEqual(result.enqueued_at, result.started_at)
        self.assertLessEqual(result.started_at, result.finished_at)
        self.assertEqual(result.started_at, result.last_attempted_at)
        self.assertTrue(timezone.is_aware(result.finished_at))

    def test_a_coroutine_runs(self) -> None:
        self.need("async_task")
        self.assertEqual(self.ended(tasks.add_async.enqueue(1, 2)).return_value, 3)

    def test_a_coroutine_fails(self) -> None:
        self.need("async_task")
        with self.assertLogs("django.tasks", "ERROR"):
            result = self.ended(tasks.fail_async.enqueue())
        self.assertEqual(result.errors[0].exception_class, tasks.OwnError)

    def test_an_exception_fails_the_task(self) -> None:
        with self.assertLogs("django.tasks", "ERROR") as logs:
            result = self.ended(tasks.fail.enqueue("no\nluck"))
        self.assertEqual((result.status, result.is_finished), (_FAILED, True))
        (error,) = result.errors
        self.assertEqual(error.exception_class, tasks.OwnError)
        self.assertTrue(error.traceback.endswith("OwnError: no\nluck\n"), error.traceback)
        self.assertIn("no\nluck", logs.output[0])
        with self.assertRaisesMessage(ValueError, "Task failed"):
            result.return_value  # noqa: B018  # a property that raises

    def test_system_exit_fails_the_task(self) -> None:
        with self.assertLogs("django.tasks", "ERROR"):
            result = self.ended(tasks.leave.enqueue())
        self.assertEqual((result.status, result.errors[0].exception_class), (_FAILED, SystemExit))

    def test_an_odd_exception_fails_the_task(self) -> None:
        with self.assertLogs("django.tasks", "ERROR"):
            result = self.ended(tasks.fail_oddly.enqueue())
        self.assertEqual(result.errors[0].exception_class, ValueError)
        self.assertIn("ValueError: inside", result.errors[0].traceback)

    def test_a_return_value_that_is_no_json_fails_the_task(self) -> None:
        with self.assertLogs("django.tasks", "ERROR"):
            result = self.ended(tasks.return_function.enqueue())
        self.assertEqual((result.status, result._return_value), (_FAILED, None))  # noqa: SLF001  # as Django's own tests do
        self.assertEqual(result.errors[0].exception_class, TypeError)

    def test_retries_keep_one_error_for_each_attempt(self) -> None:
        self.use_if_any(self.retry_options, "the backend has no retries")
        result = self.ended(tasks.fail_until.enqueue(3))
        self.assertEqual((result.status, result.return_value, result.attempts), (_SUCCESSFUL, 3, 3))
        found = [one.traceback.splitlines()[-1].rpartition(": ")[2] for one in result.errors]
        self.assertEqual(found, ["attempt 1", "attempt 2"])
        self.assertLess(result.started_at, result.last_attempted_at)

    def test_retries_end(self) -> None:
        self.use_if_any(self.retry_options, "the backend has no retries")
        with self.receiving() as found:
            result = self.ended(tasks.fail_until.enqueue(9))
        self.assertEqual((result.status, len(result.errors)), (_FAILED, 3))
        ends = [status for name, _, status, _ in found if name == "finished"]
        self.assertEqual(ends, [_READY, _READY, _FAILED])


class ResultCases(BackendCase):
    """Results that are read again."""

    def test_a_result_is_found_by_its_id(self) -> None:
        self.need("get_result")
        result = tasks.echo.enqueue(1)
        self.assertEqual(default_task_backend.get_result(result.id), result)
        self.assertEqual(tasks.echo.get_result(result.id), result)

    async def test_a_result_is_found_by_its_id_async(self) -> None:
        self.need("get_result")
        result = await tasks.echo.aenqueue(1)
        self.assertEqual(await default_task_backend.aget_result(result.id), result)
        self.assertEqual(await tasks.echo.aget_result(result.id), result)

    async def test_an_unknown_id_is_told(self) -> None:
        self.need("get_result")
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result("no-such")
        with self.assertRaises(TaskResultDoesNotExist):
            await default_task_backend.aget_result("no-such")

    def test_a_result_of_another_task_is_told(self) -> None:
        self.need("get_result")
        result = tasks.nothing.enqueue()
        with self.assertRaises(TaskResultMismatch):
            tasks.echo.get_result(result.id)

    def test_refresh_copies_everything(self) -> None:
        self.need("get_result")
        result = tasks.echo.enqueue(1)
        last = self.ended(result)
        result.refresh()
        for name in TASK_REFRESH_ATTRS:
            self.assertEqual(getattr(result, name), getattr(last, name), name)
        self.assertEqual(result.status, _SUCCESSFUL)

    def test_refresh_copies_everything_async(self) -> None:
        from asgiref.sync import async_to_sync  # noqa: PLC0415  # one case needs it

        self.need("get_result")
        result = tasks.echo.enqueue(1)
        last = self.ended(result)
        async_to_sync(result.arefresh)()
        self.assertEqual(result, last)

    def test_a_result_of_another_alias_is_not_found(self) -> None:
        self.need("get_result")
        result = tasks.nothing.using(backend="other").enqueue()
        self.assertEqual(result.backend, "other")
        self.assertEqual(task_backends["other"].get_result(result.id), result)
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result(result.id)


class SignalCases(BackendCase):
    """What receivers and the log are told."""

    def test_signals_come_in_order(self) -> None:
        with self.receiving() as found:
            self.ended(tasks.nothing.enqueue())
        sender = type(task_backends["default"])
        wanted = [("started", sender, _RUNNING, None), ("finished", sender, _SUCCESSFUL, None)]
        self.assertEqual([one[:2] for one in found[:1]], [("enqueued", sender)])
        self.assertEqual(found[1:], wanted)

    def test_a_failure_is_told_while_it_is_handled(self) -> None:
        for failing in (tasks.fail.using(), tasks.fail_async):
            args = ["x"] if failing.func is tasks.fail.func else []
            with self.receiving() as found, self.assertLogs("django.tasks", "ERROR"):
                self.ended(failing.enqueue(*args))
            name, _, status, error = found[-1]
            self.assertEqual((name, status), ("finished", _FAILED))
            self.assertIsInstance(error, tasks.OwnError)

    def test_a_receiver_that_raises_changes_nothing(self) -> None:
        if not self.survives_receivers:
            self.skipTest("the backend lets exceptions of receivers through")

        def refuse(**_: Any) -> None:
            raise RuntimeError("a receiver")

        for signal in (task_started, task_finished):
            signal.connect(refuse)
            self.addCleanup(signal.disconnect, refuse)
        with self.assertLogs("django.dispatch", "ERROR"):
            result = self.ended(tasks.echo.enqueue(1))
        self.assertEqual(result.status, _SUCCESSFUL)

    def test_each_step_is_logged(self) -> None:
        with self.assertLogs("django.tasks", "DEBUG") as logs:
            result = self.ended(tasks.nothing.enqueue())
        self.assertEqual(len(logs.output), 3)
        for line, word in zip(logs.output, ("enqueued", "RUNNING", "SUCCESSFUL"), strict=True):
            self.assertIn(word, line)
            self.assertIn(result.id, line)

    def test_a_task_is_told_of_its_context(self) -> None:
        result = self.ended(tasks.tell_context.enqueue("x"))
        self.assertEqual(result.return_value, [result.id, 1, "RUNNING", ["x"], "x"])


class OrderCases(BackendCase):
    """When tasks run."""

    def test_a_higher_priority_runs_first(self) -> None:
        self.need("priority")
        if self.runs_at_once:
            self.skipTest("the backend runs tasks at once")
        for priority in (0, -100, 100, 7):
            last = tasks.note.using(priority=priority).enqueue(priority)
        self.ended(last)
        self.assertEqual(tasks.calls, [100, 7, 0, -100])

    def test_a_task_does_not_run_before_its_time(self) -> None:
        self.need("defer", "get_result")
        later = timezone.now() + timedelta(hours=1)
        result = tasks.note.using(run_after=later).enqueue(1)
        past = tasks.note.using(run_after=timezone.now() - timedelta(hours=1)).enqueue(2)
        self.assertEqual(self.ended(past).status, _SUCCESSFUL)
        self.assertEqual((self.ended(result).status, tasks.calls), (_READY, [2]))
        self.assertEqual(default_task_backend.get_result(result.id).task.run_after, later)

    def test_times_are_naive_without_time_zones(self) -> None:
        self.need("defer", "get_result")
        with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
            result = tasks.note.using(run_after=timezone.now()).enqueue(1)
            found = self.ended(result)
            self.assertTrue(timezone.is_naive(found.finished_at))
            self.assertEqual(found.task, result.task)

    def test_changed_settings_make_new_backends(self) -> None:
        before = task_backends["default"]
        with override_settings(TASKS={"default": {"BACKEND": self.backend}}):
            self.assertIsNot(task_backends["default"], before)
            self.assertEqual(task_backends["default"].queues, {"default"})


class TransactionCases(BackendCase):
    """Transactions and connections; for ``TransactionTestCase``, and a database in a file."""

    def test_enqueue_does_not_wait_for_a_commit(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with transaction.atomic():
                result = tasks.nothing.enqueue()
        self.assertIsNotNone(result.enqueued_at)
        self.ended(result)

    def test_a_rollback_leaves_nothing(self) -> None:
        self.use_if_any(self.transaction_options, "the backend knows no transactions")
        with transaction.atomic():
            result = tasks.note.enqueue(1)
            self.assertEqual(result.status, _READY)
            transaction.set_rollback(True)
        self.run_tasks()
        self.assertEqual(tasks.calls, [])
        with self.assertRaises(TaskResultDoesNotExist):
            default_task_backend.get_result(result.id)

    def test_a_task_waits_for_the_commit(self) -> None:
        self.use_if_any(self.transaction_options, "the backend knows no transactions")
        with transaction.atomic(), self.receiving() as found:
            result = tasks.note.enqueue(1)
            self.run_tasks()
            self.assertEqual((tasks.calls, [one[0] for one in found[1:]]), ([], []))
        self.assertEqual((self.ended(result).status, tasks.calls), (_SUCCESSFUL, [1]))


class TaskBackendCases(
    ValidationCases,
    EnqueueCases,
    OutcomeCases,
    ResultCases,
    SignalCases,
    OrderCases,
    TransactionCases,
):
    """All cases."""
