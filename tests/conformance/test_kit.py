"""The kit itself: laws, benches, the runner, and the page made from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from nuvom.errors import MissingExtra
from nuvom.plugins.contracts import Plugin
from nuvom.plugins.registry import register_queue_backend
from nuvom.queue_backends.base import Capability
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.result_backends.memory import MemoryResultBackend
from nuvom.serialization.msgpack_codec import MsgpackCodec
from nuvom.testing.conformance import (
    CodecConformance,
    PluginConformance,
    QueueConformance,
    ResultConformance,
    run,
)
from nuvom.testing.conformance import law as law_module
from nuvom.testing.conformance.child import describe
from nuvom.testing.conformance.law import Kit, laws_of, needs
from nuvom.testing.conformance.laws.bench import QueueBench
from tests.conformance.list_queue import ListQueue
from tests.lab.page import BEGIN, renewed

ROOT = Path(__file__).resolve().parents[2]
KITS = (QueueConformance, ResultConformance, CodecConformance, PluginConformance)


class OneLaw(QueueConformance):
    def make(self, tmp_path: Path, **settings: Any) -> ListQueue:
        return ListQueue()


# ---- laws -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kit", KITS)
def test_every_law_states_its_promise_in_a_sentence(kit: type[Kit]) -> None:
    for one in laws_of(kit):
        assert one.promise.endswith("."), one.name
        assert len(one.promise) > 20, one.name


def test_the_page_lists_the_laws_as_they_are() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert renewed(page) == page, f"run the command that is named there: {BEGIN}"


def test_a_law_is_skipped_where_a_capability_that_it_needs_is_not_declared() -> None:
    class Needy(OneLaw):
        @needs(Capability.LEASES, Capability.UNIQUE)
        def test_it_needs(self, bench: QueueBench) -> None:
            """Never held."""
            raise RuntimeError

    (finding,) = run(Needy, only=["it_needs"]).findings
    assert (finding.outcome, finding.detail) == ("skipped", "needs leases, unique")


def test_pytest_runs_a_kit_of_a_test_module(tmp_path: Path) -> None:
    file = tmp_path / "test_toy.py"
    file.write_text(
        "from nuvom.testing.conformance import QueueConformance\n"
        "from tests.conformance.list_queue import ListQueue\n"
        "class TestToy(QueueConformance):\n"
        "    def make(self, tmp_path, **settings): return ListQueue()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "lease or handed_out_once", str(file)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "skipped" in done.stdout


# ---- the runner -----------------------------------------------------------------------------


def test_a_report_counts_and_names_the_laws() -> None:
    told: list[str] = []
    report = run(
        MemoryJobQueue, only=["order", "another_process*"], told=lambda one: told.append(one.law)
    )
    assert report.ok
    assert report.target == "nuvom.queue_backends.memory:MemoryJobQueue"
    assert [finding.law for finding in report.findings] == told
    assert "the_lower_priority_number_comes_first" in report.kept
    assert report.skipped == ["another_process_wakes_a_worker"]
    data = json.loads(json.dumps(report.to_dict()))
    assert data["kept"] == len(report.kept)
    assert data["laws"][0]["kind"] == "queue_backend"
    assert not run(MemoryJobQueue, only=["nothing"]).ok


def test_a_law_that_hangs_is_broken() -> None:
    ends = Event()

    class Hangs(OneLaw):
        limit_secs = 0.1

        def test_it_hangs(self, bench: QueueBench) -> None:
            """It ends."""
            ends.wait(30)

    (finding,) = run(Hangs, only=["it_hangs"]).findings
    ends.set()
    assert finding.outcome == "broken"
    assert finding.detail.startswith("did not end within 0.1 s")


def test_without_pytest_the_kit_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'nuvom\[testing\]'"):
        run(MemoryJobQueue)


@pytest.mark.parametrize("module", ["nuvom.testing", "nuvom.testing.conformance"])
def test_importing_the_package_loads_no_test_library(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('pytest', 'hypothesis') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# ---- targets --------------------------------------------------------------------------------


class BothBackends(Plugin):
    name = "both"
    provides = ("queue_backend",)

    def start(self, settings: Any, extras: Any) -> None:
        register_queue_backend("both", MemoryJobQueue, force=True)


@pytest.mark.parametrize(
    ("target", "contract"),
    [
        (MemoryJobQueue, "queue_backend"),
        (MemoryResultBackend, "result_backend"),
        (MsgpackCodec, "codec"),
        (MsgpackCodec(), "codec"),
        (OneLaw, "queue_backend"),
    ],
)
def test_a_target_is_held_to_the_laws_of_its_contract(target: object, contract: str) -> None:
    report = run(target, only=["a_job_is_handed_out_once", "*_name", "an_error_is_kept"])
    assert report.ok
    assert {contract} == {finding.kind for finding in report.findings}


@pytest.mark.parametrize("target", [BothBackends, BothBackends()])
def test_a_plugin_is_tested_with_its_backends(target: object) -> None:
    report = run(target, only=["it_*", "a_job_is_handed_out_once"])
    assert report.ok
    assert {"plugin", "queue_backend"} == {finding.kind for finding in report.findings}


@pytest.mark.parametrize(("target", "kind"), [(int, None), (7, None), (ListQueue, "pony")])
def test_what_no_kit_fits_is_a_type_error(target: object, kind: str | None) -> None:
    with pytest.raises(TypeError, match=r"no backend, codec or plugin|no kit for 'pony'"):
        run(target, kind)


# ---- processes ------------------------------------------------------------------------------


def test_only_what_can_be_named_opens_a_store_elsewhere() -> None:
    with pytest.raises(TypeError, match="top level of a module"):
        describe(lambda: MemoryJobQueue())  # noqa: PLW0108  # a lambda is what is tested
