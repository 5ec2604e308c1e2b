"""What docs/plugins.md says is what happens; that its snippets run is tested with all pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord, StoredError
from nuvom.events import EventBus, JobFailed
from nuvom.plugins.lifecycle import START_LIMIT_SECS, STOP_LIMIT_SECS, make_extras
from nuvom.plugins.loader import GROUP, PLUGIN_FILE, backend_class, build_backend

from .conftest import Lay

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TABLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_queue_of_the_page_is_found_and_works(
    tmp_path: Path, lay: Lay, plugin_file: Callable[[str], Path]
) -> None:
    lay("maildrop.py", SNIPPETS[0])
    plugin_file(TABLES[0])
    assert TABLES[0].startswith(f"# {PLUGIN_FILE}\n")
    settings = Settings(root=tmp_path, queue_backend="maildrop")

    found = backend_class("queue", "maildrop", settings, allow_project_plugins=True)
    queue = build_backend(found, settings)
    jobs = [JobRecord(id=f"{number}", func_name="tasks.add") for number in range(4)]
    for job in jobs:
        queue.enqueue(job)

    assert (4, jobs[:2], jobs[2]) == (queue.qsize(), queue.pop_batch(2), queue.dequeue())
    queue.clear()
    assert (0, None, None) == (queue.qsize(), queue.dequeue(), queue.dequeue(0.02))


def test_subscriber_of_the_page_hears_of_failures_until_it_is_stopped() -> None:
    names: dict[str, Any] = {}
    exec(SNIPPETS[1], names)  # the page's code
    bus, notes = EventBus(), names["FailureNotes"]()
    notes.start(Settings(), make_extras(bus))
    job = JobRecord(id="1", func_name="tasks.add")
    bus.emit(JobFailed(job, StoredError("ValueError", "bad"), 1.0, "worker"))
    notes.stop()
    assert (["tasks.add: ValueError"], set()) == (notes.notes, bus.active)


def test_figures_and_words_of_the_page_are_those_of_the_code() -> None:
    words = {5.0: "five", 10.0: "ten"}
    assert f"{words[START_LIMIT_SECS]} seconds for `start`" in PAGE
    assert f"{words[STOP_LIMIT_SECS]}\n  for `stop`" in PAGE
    assert f"[project.entry-points.{GROUP}]" in PAGE
    assert all(f"| `{name}` |" in PAGE for name in make_extras())
