"""An engine with the Prometheus plugin, and what a scrape of it gives."""

from __future__ import annotations

import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from nuvom.contrib.prometheus import PrometheusPlugin
from nuvom.inspection.inspector import Inspector
from nuvom.plugins.lifecycle import bind_extras, make_extras
from tests.engine import Engine, make_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nuvom.runtime import Runtime


Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@contextmanager
def exported(project: Path, **settings: Any) -> Iterator[tuple[Engine, PrometheusPlugin]]:
    """Give an engine on SQLite whose metrics are served at any free port."""
    given = {"queue_backend": "sqlite", "result_backend": "sqlite", "prometheus_port": 0}
    runtime = make_runtime(project, **{**given, **settings})
    with Engine(runtime, listens=False) as engine:
        plugin = start(runtime)
        try:
            yield engine, plugin
        finally:
            plugin.stop()


def start(runtime: Runtime) -> PrometheusPlugin:
    """Start the plugin as a worker does."""
    plugin, extras = PrometheusPlugin(), make_extras(runtime.bus, runtime.clock)
    plugin.start(runtime.settings, extras)
    bind_extras(extras, Inspector(runtime), runtime.control)
    plugin.update_runtime(runtime)
    return plugin


def text(plugin: PrometheusPlugin, host: str = "127.0.0.1") -> str:
    """Scrape over HTTP."""
    with urllib.request.urlopen(f"http://{host}:{plugin.port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def samples(found: str) -> Samples:
    """Return the samples of an exposition by name and labels; refuses what is malformed."""
    read: Samples = {}
    for family in text_string_to_metric_families(found):
        assert family.documentation, family.name
        for one in family.samples:
            series = read.setdefault(one.name, {})
            labels = frozenset(one.labels.items())
            assert labels not in series, f"{one.name} has {one.labels} twice"
            series[labels] = one.value
    return read


def value(found: Samples, name: str, **labels: str) -> float:
    """Return the sum of the series of ``name`` that have these labels."""
    wanted = set(labels.items())
    matching = [value for known, value in found[name].items() if wanted <= known]
    assert matching, f"{name} has no series with {labels}"
    return sum(matching)
