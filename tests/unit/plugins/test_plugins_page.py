"""What docs/plugins.md says is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nuvom.config.settings import Settings
from nuvom.core.record import JobRecord
from nuvom.plugins.lifecycle import START_LIMIT_SECS, STOP_LIMIT_SECS, make_extras
from nuvom.plugins.loader import (
    GROUP,
    PLUGIN_FILE,
    backend_class,
    build_backend,
    load_plugins,
)

from .conftest import Lay

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TABLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
# The snippets are what a reader types, in one process of their own: they register things.
DRIVER = """
from nuvom.config.settings import Settings
from nuvom.events import EventBus, JobFailed
from nuvom.plugins.lifecycle import make_extras
from nuvom.plugins.registry import queue_backend
from nuvom.core.record import JobRecord, StoredError

bus = EventBus()
notes, mail = FailureNotes(), MaildropPlugin()
for plugin in (notes, mail):
    plugin.start(Settings(), make_extras(bus))
job = JobRecord(id="1", func_name="tasks.add")
bus.emit(JobFailed(job, StoredError("ValueError", "bad"), 1.0, "worker"))
notes.stop()
assert notes.notes == ["tasks.add: ValueError"], notes.notes
assert not bus.active
assert queue_backend("maildrop") is MaildropQueue
"""


def test_python_of_the_page_runs(tmp_path: Path) -> None:
    program = tmp_path / "page.py"
    program.write_text("\n".join([*SNIPPETS, DRIVER]), encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert "{'maildrop_files': 12.0}\n" == done.stdout


def test_queue_of_the_page_is_found_and_works(
    tmp_path: Path, lay: Lay, plugin_file: Callable[[str], Path]
) -> None:
    lay("maildrop.py", SNIPPETS[0])
    plugin_file(TABLES[0])
    assert TABLES[0].startswith(f"# {PLUGIN_FILE}\n")
    settings = Settings(root=tmp_path, queue_backend="maildrop")

    found = backend_class("queue", "maildrop", settings, allow_project_plugins=True)
    queue = build_backend(found, settings)
    jobs = [JobRecord(id=f"{number}", func_name="tasks.add") for number in range(5)]
    for job in jobs:
        queue.enqueue(job)

    assert 5 == queue.qsize()
    assert jobs[:2] == queue.pop_batch(2)
    assert jobs[2] == queue.dequeue()
    queue.clear()
    assert (0, None, None) == (queue.qsize(), queue.dequeue(), queue.dequeue(0.02))
    load_plugins(settings).start(settings, make_extras())


def test_figures_and_words_of_the_page_are_those_of_the_code() -> None:
    words = {5.0: "five", 10.0: "ten"}
    assert f"{words[START_LIMIT_SECS]} seconds for `start`" in PAGE
    assert f"{words[STOP_LIMIT_SECS]}\n  for `stop`" in PAGE
    assert f"[project.entry-points.{GROUP}]" in PAGE
    for name in make_extras():
        assert f"| `{name}` |" in PAGE
