"""R20, F30: a process with threads and an open store forks; parent and children go on writing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nuvom.testing import history
from tests.reliability.workspace import Workspace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("file", marks=pytest.mark.slow)])
def test_r20_forks_of_a_process_with_threads_neither_hang_nor_harm(
    tmp_path: Path, figures: Callable[[str], None], backend: str
) -> None:
    forks = 200
    workspace = Workspace(tmp_path, backend)
    child = workspace.child("fork", forks=forks)
    assert child.wait(100), "it hangs"
    child.close()
    assert child.process.returncode == 0, workspace.errors()
    with workspace.open() as runtime:
        workspace.drain(runtime)
        told = {one["job"] for one in workspace.events(history.ENQUEUE_OK)}
        pids = {one["pid"] for one in workspace.events(history.ENQUEUE_OK)}
        figures(f"{backend}: {forks} forks, {len(told)} jobs told of by {len(pids)} processes")
        assert len(pids) == forks + 1
        assert told <= workspace.snapshots(runtime).keys()
        findings = workspace.findings(runtime)
        assert findings.is_valid, findings
        workspace.assert_sound(runtime)
