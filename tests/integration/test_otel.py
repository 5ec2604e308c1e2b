"""Traces from a caller like a web application through a worker in another process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from nuvom.contrib.otel import OTelPlugin, instrument, names, spans
from nuvom.core.record import JobRecord
from nuvom.events import JobDead, JobReaped
from nuvom.inspection.inspector import Inspector
from nuvom.plugins.lifecycle import bind_extras, make_extras
from nuvom.scheduler.service import Scheduler
from nuvom.testing import make_job
from tests.cli.shell import call
from tests.engine import LIMIT_SECS, Engine, make_runtime

# A worker's own tracing, as a project would write it; it tells the test what was made.
TRACING = """
import json
import os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from nuvom.contrib.otel import OTelPlugin

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))


class Tracing(OTelPlugin):
    name = "tracing"

    def __init__(self):
        super().__init__(tracer_provider=provider)

    def stop(self):
        super().stop()
        spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
        with open("spans.json", "w") as file:
            json.dump(spans, file)
"""
TASKS = """
import logging
import nuvom
from opentelemetry import trace

def here() -> str:
    logging.getLogger("app").info("here")
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x} {span.span_id:016x}"

@nuvom.task
def in_thread(x: int) -> str:
    return here()

@nuvom.task
async def in_loop(x: int) -> str:
    return here()

@nuvom.task(isolation="process")
def in_child(x: int) -> str:
    return here()

@nuvom.task
def fails(word: str) -> None:
    raise ValueError("password=" + word)
"""


class Traced:
    """An engine whose spans are kept."""

    def __init__(self, engine: Engine, exporter: InMemorySpanExporter) -> None:
        self.engine = engine
        self._exporter = exporter

    def spans(self, start: str) -> list[ReadableSpan]:
        found = self._exporter.get_finished_spans()
        return [span for span in found if span.name.startswith(start)]

    def span(self, start: str) -> ReadableSpan:
        (found,) = self.spans(start)
        return found


def provider() -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter, made = InMemorySpanExporter(), TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


@contextmanager
def plugged(project: Path, plugin: OTelPlugin) -> Iterator[Engine]:
    """Give an engine whose runtime has the plugin, as in a worker."""
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:
        extras = make_extras(runtime.bus, runtime.clock)
        plugin.start(runtime.settings, extras)
        bind_extras(extras, Inspector(runtime), runtime.control)
        plugin.update_runtime(runtime)
        yield engine
        plugin.stop()
        assert () == runtime.bus.middleware


@pytest.fixture
def traced(project: Path) -> Iterator[Callable[..., Traced]]:
    """Return a function that makes an engine with the plugin."""
    with ExitStack() as stack:

        def make(**options: Any) -> Traced:
            tracers, exporter = provider()
            plugin = OTelPlugin(tracer_provider=tracers, **options)
            return Traced(stack.enter_context(plugged(project, plugin)), exporter)

        yield make


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# ---- two processes ------------------------------------------------------------------------------


def test_a_trace_leads_from_the_caller_to_the_worker_in_all_lanes(project: Path) -> None:
    (project / "tasks.py").write_text(TASKS)
    (project / "tracing.py").write_text(TRACING)
    plugin_file = project / ".nuvom_plugins.toml"
    plugin_file.write_text('[plugins]\ntracing = ["tracing:Tracing"]\n')
    for path in (plugin_file, project):
        path.chmod(0o700)
    tracers, exporter = provider()
    lanes = {"thread": "in_thread", "async": "in_loop", "process": "in_child"}
    runtime = make_runtime(project, queue_backend="sqlite", result_backend="sqlite")
    with Engine(runtime, listens=False) as engine:
        stop = instrument(tracers, bus=runtime.bus)
        with tracers.get_tracer("web").start_as_current_span("GET /") as request:
            jobs = {
                lane: engine.task(lambda x: x, name=f"tasks.{name}").delay(1)
                for lane, name in lanes.items()
            }
        stop()
        worker = call("runworker", "--burst", "--log-format", "json", cwd=project)
        assert 0 == worker.code, worker.err
        told = {lane: job.get(LIMIT_SECS) for lane, job in jobs.items()}
    sent = {attributes(one)[names.MESSAGE_ID]: one for one in exporter.get_finished_spans()[:-1]}
    seen = json.loads((project / "spans.json").read_text())
    logged = [json.loads(line) for line in worker.err.splitlines() if line.startswith("{")]
    assert 3 == len([one for one in seen if one["name"] == "process default"])
    for lane, job in jobs.items():
        producer = sent[job.id]
        assert SpanKind.PRODUCER is producer.kind
        assert producer.parent is not None
        assert request.get_span_context().span_id == producer.parent.span_id
        process, settle = (
            next(
                one
                for one in seen
                if one["name"] == name and one["attributes"][names.MESSAGE_ID] == job.id
            )
            for name in ("process default", "settle default")
        )
        own = process["context"]
        assert lane == process["attributes"][names.LANE]
        # A trace of its own, linked to the one that it was sent in.
        assert process["parent_id"] is None
        (link,) = process["links"]
        assert f"0x{producer.context.span_id:016x}" == link["context"]["span_id"]
        assert own["trace_id"] != link["context"]["trace_id"]
        assert own["span_id"] == settle["parent_id"]
        assert "success" == settle["attributes"][names.OUTCOME]
        # What the task's code saw is its process span, in a child of the worker, too.
        assert f"{own['trace_id'][2:]} {own['span_id'][2:]}" == told[lane]
        # So does what is logged, by the task's code and about it.
        lines = [line for line in logged if line.get("job_id") == job.id]
        assert {"log", "job.finished"} == {line["event"] for line in lines}
        for line in lines:
            assert own["trace_id"][2:] == line["trace_id"]
            assert own["span_id"][2:] == line["span_id"]
    received = [one for one in seen if one["name"] == "receive default"]
    assert 3 == sum(one["attributes"][names.BATCH_COUNT] for one in received)
    assert 3 == sum(len(one["links"]) for one in received)


# ---- one process --------------------------------------------------------------------------------


def test_names_and_attributes_are_those_of_the_conventions(traced: Callable[..., Traced]) -> None:
    here = traced()
    here.engine.task(lambda x: x, name="tests.same", retries=2).delay(1)
    here.engine.work()
    common = {
        *("messaging.system", "messaging.destination.name", "messaging.message.id"),
        *("messaging.operation.name", "messaging.operation.type", "nuvom.task.name"),
    }
    more = {
        "enqueue default": {"messaging.message.body.size"},
        "process default": {
            *("nuvom.job.attempt", "nuvom.job.max_attempts", "nuvom.job.lease_epoch"),
            *("nuvom.worker.id", "nuvom.lane", "nuvom.job.outcome"),
        },
        "settle default": {"nuvom.job.outcome"},
    }
    kinds = {"enqueue": SpanKind.PRODUCER, "process": SpanKind.CONSUMER, "settle": SpanKind.CLIENT}
    for name, expected in more.items():
        span = here.span(name)
        assert common | expected == set(attributes(span)), name
        assert kinds[name.split()[0]] is span.kind
        assert StatusCode.UNSET is span.status.status_code
        assert span.instrumentation_scope is not None
        assert "https://opentelemetry.io/schemas/1.44.0" == span.instrumentation_scope.schema_url
    assert (1, 3) == tuple(
        attributes(here.span("process"))[name] for name in (names.ATTEMPT, names.MAX_ATTEMPTS)
    )
    process, settle = here.span("process"), here.span("settle")
    assert (process.end_time or 0) == settle.start_time


def test_failures_are_marked_masked_and_each_retry_links_to_the_same_sender(
    traced: Callable[..., Traced],
) -> None:
    here = traced()

    def fails(word: str) -> None:
        raise ValueError(f"password={word}")

    here.engine.task(fails, retries=1, retry_delay_secs=0.0).delay("hunter2")
    here.engine.work()
    first, second = here.spans("process")
    assert ["retry", "failure"] == [attributes(one)[names.OUTCOME] for one in (first, second)]
    for one in (first, second):
        assert StatusCode.ERROR is one.status.status_code
        assert "ValueError" == attributes(one)[names.ERROR_TYPE]
        (event,) = one.events
        assert "exception" == event.name
        assert "hunter2" not in one.to_json()
        assert [here.span("enqueue").context.span_id] == [x.context.span_id for x in one.links]
    assert first.context.trace_id != second.context.trace_id


def test_a_timeout_is_an_error(traced: Callable[..., Traced]) -> None:
    here = traced()

    async def waits() -> None:
        import asyncio

        await asyncio.sleep(LIMIT_SECS)

    here.engine.task(waits, timeout_secs=0.01).delay()
    here.engine.work()
    span = here.span("process")
    assert ("timeout", "timeout") == (
        attributes(span)[names.OUTCOME],
        attributes(span)[names.ERROR_TYPE],
    )


def test_a_reap_tells_of_a_lost_attempt(traced: Callable[..., Traced]) -> None:
    here = traced()
    bus = here.engine.runtime.bus
    bus.emit(JobReaped(make_job("tests.probe")))
    bus.emit(JobReaped(make_job("tests.probe", suspect=True)))
    bus.emit(JobDead(make_job("tests.probe", suspect=True)))
    fetched, lost, dead = here.spans("reap")
    assert [1, 1, 1] == [attributes(one)[names.REAPED] for one in (fetched, lost, dead)]
    assert StatusCode.UNSET is fetched.status.status_code
    assert ["lost", "lost"] == [attributes(one)[names.ERROR_TYPE] for one in (lost, dead)]
    assert "dead" == attributes(dead)[names.OUTCOME]


def test_each_fire_of_a_schedule_is_a_trace_of_its_own(traced: Callable[..., Traced]) -> None:
    here = traced()
    task = here.engine.task(lambda: None, name="tests.same")
    past = datetime.now(UTC) - timedelta(minutes=5)
    for name in ("first", "second"):
        task.schedule(at=past, name=name)
    web = TracerProvider().get_tracer("web")
    with web.start_as_current_span("POST /") as request:
        manual = task.schedule(interval=60, name="manual").run_now()
    Scheduler(here.engine.runtime).step()
    here.engine.work()
    fires = {one.name.removeprefix("fire "): one for one in here.spans("fire")}
    assert {"first", "second", "manual"} == fires.keys()
    sent = {one.parent.span_id: one for one in here.spans("enqueue") if one.parent}
    for name, fire in fires.items():
        assert SpanKind.INTERNAL is fire.kind
        assert {names.SCHEDULE_ID: name} == {
            key: one for key, one in attributes(fire).items() if key != names.SCHEDULE_LAG
        }
        assert (fire.parent is not None) == (name == "manual")
        assert fire.context.trace_id == sent[fire.context.span_id].context.trace_id
    assert fires["manual"].context.trace_id == request.get_span_context().trace_id
    assert manual.id == attributes(sent[fires["manual"].context.span_id])[names.MESSAGE_ID]
    assert 0 == attributes(fires["manual"])[names.SCHEDULE_LAG]
    assert 300 <= attributes(fires["first"])[names.SCHEDULE_LAG] < 600
    linked = {link.context.span_id for one in here.spans("process") for link in one.links}
    assert {one.context.span_id for one in sent.values()} == linked


def test_a_map_is_one_span_with_its_count(traced: Callable[..., Traced]) -> None:
    here = traced()
    here.engine.task(lambda x: x, name="tests.same").map([(number,) for number in range(5)])
    here.engine.work()
    span = here.span("enqueue")
    assert 5 == attributes(span)[names.BATCH_COUNT]
    assert names.MESSAGE_ID not in attributes(span)
    assert {span.context.span_id} == {
        link.context.span_id for one in here.spans("process") for link in one.links
    }


def test_each_job_of_a_map_can_have_a_span_of_its_own(traced: Callable[..., Traced]) -> None:
    here = traced(map_create_spans=True)
    jobs = here.engine.task(lambda x: x, name="tests.same").map([(1,), (2,)])
    here.engine.work()
    send, created = here.span("enqueue"), here.spans("create default")
    assert SpanKind.CLIENT is send.kind
    assert {send.context.span_id} == {one.parent.span_id for one in created if one.parent}
    assert {SpanKind.PRODUCER} == {one.kind for one in created}
    spans = {attributes(one)[names.MESSAGE_ID]: one.context.span_id for one in created}
    assert {job.id for job in jobs} == set(spans)
    for one in here.spans("process"):
        (link,) = one.links
        assert spans[attributes(one)[names.MESSAGE_ID]] == link.context.span_id


def test_an_attempt_can_continue_the_senders_trace(traced: Callable[..., Traced]) -> None:
    here = traced(parent="message", span_names="task")
    here.engine.task(lambda x: x, name="tests.same").delay(1)
    here.engine.work()
    sender, process = here.span("enqueue"), here.span("process tests.same")
    assert sender.context.trace_id == process.context.trace_id
    assert process.parent is not None
    assert sender.context.span_id == process.parent.span_id
    with pytest.raises(ValueError, match="link or message"):
        OTelPlugin(parent="sibling")


# ---- headers ------------------------------------------------------------------------------------


def test_malformed_headers_are_ignored() -> None:
    for headers in ({"traceparent": "nonsense"}, {"baggage": "=;,="}, {}):
        assert spans.context_of(JobRecord("1", "x", headers=headers)) is not None


def test_baggage_goes_along_and_is_dropped_when_it_is_too_large() -> None:
    small = spans.headers_of(baggage.set_baggage("user", "7", context.Context()))
    assert "user=7" == small["baggage"]
    found = spans.context_of(JobRecord("1", "x", headers=small))
    assert "7" == baggage.get_baggage("user", found)
    # Together with the trace's own header it is more than a job has room for.
    sender = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    large = trace.set_span_in_context(sender, context.Context())
    for name in "ab":
        large = baggage.set_baggage(name, "x" * 4080, large)
    assert ["traceparent"] == list(spans.headers_of(large))


# ---- metrics ------------------------------------------------------------------------------------


def test_metrics_have_the_names_of_the_conventions(project: Path) -> None:
    reader = InMemoryMetricReader()
    with plugged(project, OTelPlugin(meter_provider=MeterProvider([reader]))) as engine:
        task = engine.task(lambda x: 1 // x, name="tests.divide")
        task.map([(0,), (1,)])
        with engine.worker() as worker:
            while worker.finished_jobs < 2:
                assert not worker.join(0.01)
            found = measured(reader)
    assert {
        *("messaging.client.sent.messages", "messaging.client.consumed.messages"),
        *("messaging.client.operation.duration", "messaging.process.duration"),
        *("nuvom.queue.depth", "nuvom.queue.oldest_age", "nuvom.worker.slots"),
    } <= set(found)
    assert 2 == sum(point.value for point in found["messaging.client.sent.messages"])
    durations = found["messaging.process.duration"]
    assert {None, "ZeroDivisionError"} == {p.attributes.get("error.type") for p in durations}
    assert 3600.0 == max(durations[0].explicit_bounds)
    for points in found.values():
        for point in points:
            assert "messaging.message.id" not in point.attributes


def measured(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
