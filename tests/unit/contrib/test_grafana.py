"""Dashboards and alerts speak of metrics that there are, in a language that Prometheus knows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nuvom.core.record import StoredError
from nuvom.events import BackendFailed, JobFenced
from nuvom.testing import make_job
from tests.engine import wait_until
from tests.unit.contrib.metrics import Samples, exported, samples, text

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "contrib" / "grafana"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
ALERTS = FOLDER / "nuvom-alerts.yml"
PAGE = ROOT / "docs" / "metrics.md"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is NOT INSTALLED, so rules were not checked: apt-get install prometheus",
)


def expressions(path: Path) -> list[str]:
    """Return the PromQL of a dashboard's panels, with its variables filled in."""
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    found = [one["expr"] for panel in panels for one in panel["targets"]]
    return [re.sub(r"\$\w+", ".*", one.replace("$__rate_interval", "5m")) for one in found]


def alert_expressions() -> list[str]:
    lines = ALERTS.read_text(encoding="utf-8")
    return re.findall(r"expr: (?:\|\n)?(.*?)\n +for:", lines, re.DOTALL)


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the metrics of an expression with the labels that select from them."""
    for name, selection in re.findall(r"\b(nuvom_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)=~?\"", selection))


@pytest.fixture
def scrape(project: Path) -> Samples:
    """Return a scrape of a worker to which everything has happened once."""
    with exported(project) as (engine, plugin):
        bus = engine.runtime.bus
        task = engine.task(lambda number: 1 // number, name="divide")
        task.map([(0,), (1,)])
        task.schedule(1, interval=3600.0)
        with engine.worker() as worker:
            wait_until(lambda: worker.finished_jobs == 2)
            bus.emit(BackendFailed("claim", StoredError("OSError", "no")))
            bus.emit(JobFenced(make_job(), worker.id))
            bus.report("somebody", ValueError())
            return samples(text(plugin))


def test_every_metric_and_label_that_is_used_exists(scrape: Samples) -> None:
    all_used = [one for path in DASHBOARDS for text in expressions(path) for one in used(text)]
    all_used += [one for text in alert_expressions() for one in used(text)]
    for path in DASHBOARDS:
        variables = re.findall(r"label_values\((\w+), (\w+)\)", path.read_text(encoding="utf-8"))
        all_used += [(name, {label}) for name, label in variables]
    assert len(all_used) > 50
    for name, labels in all_used:
        assert name in scrape, f"there is no metric {name}"
        known = {label for series in scrape[name] for label, _ in series}
        assert labels <= known, f"{name} has no label {labels - known}"


def test_the_page_lists_exactly_the_metrics_that_there_are(scrape: Samples) -> None:
    listed = set(re.findall(r"^\| `(nuvom_\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in scrape}
    shown = {"nuvom_worker_count" if name == "nuvom_worker" else name for name in shown}
    assert listed == shown


def test_every_alert_has_a_section_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    links = re.findall(r"runbook_url: docs/metrics.md#(\w+)", ALERTS.read_text(encoding="utf-8"))
    assert [one.lower() for one in alerts] == links
    assert alerts == re.findall(r"^### (Nuvom\w+)$", page, re.MULTILINE)


@needs_promtool
def test_promql_can_be_parsed_and_each_alert_fires_when_it_should_and_only_then(
    tmp_path: Path,
) -> None:
    rules = [
        {"record": f"x:{number}", "expr": text}
        for number, text in enumerate(one for path in DASHBOARDS for one in expressions(path))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "x", "rules": rules}]}))  # JSON is YAML
    cases = (FOLDER / "nuvom-alerts-test.yml").read_text(encoding="utf-8")
    for alert in re.findall(r"alert: (\w+)", ALERTS.read_text(encoding="utf-8")):
        assert f"name: {alert} fires\n" in cases
        assert f"name: {alert} is quiet\n" in cases
    for arguments in (
        ("check", "rules", str(file)),
        ("check", "rules", ALERTS.name),
        ("test", "rules", "nuvom-alerts-test.yml"),
    ):
        done = subprocess.run(
            ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stdout + done.stderr
