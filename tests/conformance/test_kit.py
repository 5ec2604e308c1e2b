"""The kit itself: laws, benches, the runner, and the page made from them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

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
    LawBroken,
    PluginConformance,
    QueueConformance,
    ResultConformance,
    laws_of,
    run,
)
from nuvom.testing.conformance import law as law_module
from nuvom.testing.conformance.child import KitChild, describe, produce
from nuvom.testing.conformance.law import Kit, NotDeclared, law
from nuvom.testing.conformance.laws.bench import QueueBench
from tests.conformance.list_queue import ListQueue
from tests.conformance.stores import StoredQueueConformance, open_queue
from tests.lab import page as page_module
from tests.lab.page import BEGIN, renewed

ROOT = Path(__file__).resolve().parents[2]
KITS = (QueueConformance, ResultConformance, CodecConformance, PluginConformance)


# ---- laws -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kit", KITS)
def test_every_law_states_its_promise_in_a_sentence(kit: type[Kit]) -> None:
    for one in laws_of(kit):
        assert one.promise.endswith("."), one.name
        assert len(one.promise) > 20, one.name


@pytest.mark.parametrize("kit", KITS)
def test_every_test_of_a_kit_is_a_law(kit: type[Kit]) -> None:
    tests = {name for name in dir(kit) if name.startswith("test_")}
    assert {f"test_{one.name}" for one in laws_of(kit)} == tests


def test_an_override_takes_the_place_of_a_law() -> None:
    class Own(QueueConformance):
        @law()
        def test_a_job_is_handed_out_once(self, bench: QueueBench) -> None:
            """Ours."""

    (found,) = [one for one in laws_of(Own()) if one.name == "a_job_is_handed_out_once"]
    assert found.promise == "Ours."


def test_the_page_lists_the_laws_as_they_are() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert renewed(page) == page, f"run the command that is named there: {BEGIN}"


def test_the_page_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}old\n", encoding="utf-8")
    page_module.main(str(page))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n{BEGIN}\n## Queues: ")
    assert f"{BEGIN}old" not in text
    with pytest.raises(ValueError, match="has no line"):
        renewed("# Title\n")


# ---- judging --------------------------------------------------------------------------------


class Toy(Kit):
    contract: ClassVar[str] = "toy"

    def bench(self, folder: Path) -> Any:
        return super().bench(folder)


def test_a_kit_says_what_it_works_on() -> None:
    with pytest.raises(NotImplementedError), Toy().bench(Path()):
        pass
    assert Toy().declared(None) is None
    for kit in (QueueConformance(), ResultConformance()):
        with pytest.raises(NotImplementedError):
            kit.make(Path())
    for plain in (CodecConformance(), PluginConformance()):
        with pytest.raises(NotImplementedError):
            plain.make()


class OneLaw(QueueConformance):
    def make(self, tmp_path: Path, **settings: Any) -> ListQueue:
        return ListQueue()


def test_a_broken_law_tells_its_name_promise_and_detail(tmp_path: Path) -> None:
    class Broken(OneLaw):
        @law()
        def test_it_floats(self, bench: QueueBench) -> None:
            """Jobs float."""
            assert bench.queue.qsize() == 1, "it sank"

    with pytest.raises(LawBroken) as caught:
        Broken().test_it_floats(tmp_path)
    text = str(caught.value)
    assert text.startswith('The law "it_floats" is broken: Jobs float.\nit sank')


def test_a_law_is_skipped_where_its_capability_is_not_declared(tmp_path: Path) -> None:
    class Needy(OneLaw):
        @law(Capability.LEASES, Capability.UNIQUE)
        def test_it_needs(self, bench: QueueBench) -> None:
            """Never held."""
            raise RuntimeError

    with pytest.raises(NotDeclared) as caught:
        Needy().judge(Needy.test_it_needs.law, tmp_path)  # type: ignore[attr-defined]  # set by law()
    assert [Capability.LEASES, Capability.UNIQUE] == list(caught.value.missing)


def test_pytest_takes_a_law_that_does_not_apply_as_skipped(tmp_path: Path) -> None:
    file = tmp_path / "test_toy.py"
    file.write_text(
        "from nuvom.testing.conformance import QueueConformance\n"
        "from tests.conformance.list_queue import ListQueue\n"
        "class TestToy(QueueConformance):\n"
        "    def make(self, tmp_path, **settings): return ListQueue()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-k", "lease", str(file)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" in done.stdout
    assert "passed" not in done.stdout


def test_a_queue_that_declares_leases_has_to_derive_from_the_contract() -> None:
    class Pretends(ListQueue):
        capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.LEASES})

    report = run(Pretends, only=["a_claimed_job_is_running", "an_extended_lease_lasts"])
    assert ["a_claimed_job_is_running", "an_extended_lease_lasts"] == report.broken
    assert "Pretends declares leases but is no LeasedJobQueue" in report.findings[0].detail


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
    assert data["ok"] is True


def test_a_report_without_a_law_is_not_ok() -> None:
    assert not run(MemoryJobQueue, only=["nothing"]).ok


def test_an_error_of_the_backend_breaks_the_law() -> None:
    class Raises(ListQueue):
        def qsize(self) -> int:
            raise OSError("gone")

    report = run(Raises, only=["the_size_counts_what_waits"])
    assert report.broken == ["the_size_counts_what_waits"]
    assert report.findings[0].detail == "OSError: gone"
    assert "Traceback" in report.findings[0].trace


def test_a_law_that_hangs_is_broken(tmp_path: Path) -> None:
    from threading import Event

    ends = Event()

    class Hangs(OneLaw):
        @law(limit_secs=0.1)
        def test_it_hangs(self, bench: QueueBench) -> None:
            """It ends."""
            ends.wait(30)

    report = run(Hangs(), only=["it_hangs"])
    ends.set()
    assert report.broken == ["it_hangs"]
    assert report.findings[0].detail == "did not end within 0.1 s"


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


def test_the_packages_have_no_other_names() -> None:
    import nuvom.testing
    import nuvom.testing.conformance

    for package in (nuvom.testing, nuvom.testing.conformance):
        assert all(getattr(package, name) for name in package.__all__)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            package.nothing  # noqa: B018  # the access is what is tested


# ---- targets --------------------------------------------------------------------------------


class BothBackends(Plugin):
    name = "both"
    provides = ("queue_backend",)

    def start(self, settings: Any, extras: Any) -> None:
        register_queue_backend("both", MemoryJobQueue, force=True)


@pytest.mark.parametrize(
    ("target", "kind", "contract"),
    [
        (MemoryJobQueue, None, "queue_backend"),
        (MemoryResultBackend, None, "result_backend"),
        (MsgpackCodec, None, "codec"),
        (MsgpackCodec(), None, "codec"),
        (ListQueue, "queue_backend", "queue_backend"),
        (OneLaw, None, "queue_backend"),
        (OneLaw(), None, "queue_backend"),
    ],
)
def test_a_target_is_held_to_the_laws_of_its_contract(
    target: object, kind: str | None, contract: str
) -> None:
    report = run(target, kind, only=["a_job_is_handed_out_once", "*_name", "none_is_a_result"])
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


def test_settings_reach_the_target(tmp_path: Path) -> None:
    class Wants(ListQueue):
        def __init__(self, settings: Any) -> None:
            super().__init__()
            assert settings.redis_url == "redis://here"

    report = run(Wants, settings={"redis_url": "redis://here"}, only=["a_job_is_handed_out_once"])
    assert report.ok


# ---- benches and processes ------------------------------------------------------------------


class SharedKit(StoredQueueConformance):
    backend = "file"


def test_a_bench_says_what_it_cannot_do(tmp_path: Path) -> None:
    bench = QueueBench(OneLaw(), tmp_path)
    bench.open()
    with pytest.raises(SkipTest, match="not shared between instances"):
        bench.reopen()
    with pytest.raises(SkipTest, match="not shared between processes"):
        bench.child(produce, most=1)
    with pytest.raises(AssertionError, match="ListQueue declares leases"):
        bench.leased.own_id  # noqa: B018  # the access is what is tested


def test_a_bench_is_not_patient_for_ever(tmp_path: Path) -> None:
    class Hasty(OneLaw):
        patience_secs = 0.05

    bench = QueueBench(Hasty(), tmp_path)
    with pytest.raises(AssertionError, match=r"not after 0.05 s: pigs fly"):
        bench.wait_until(lambda: False, "pigs fly")


def test_a_child_tells_what_it_did_and_dies_when_told(tmp_path: Path) -> None:
    child = KitChild(partial(open_queue, "file", str(tmp_path), {}), produce, {"most": 2})
    child.start()
    said = [child.hear(), child.hear()]
    assert len(set(said)) == 2
    with pytest.raises(AssertionError, match="ended with exit code 0"):
        child.hear()
    child.kill()
    child.kill()
    queue = open_queue("file", str(tmp_path), {})
    assert queue.qsize() == 2
    queue.stop()


def test_a_child_that_fails_is_noticed(tmp_path: Path) -> None:
    child = KitChild(partial(open_queue, "pony", str(tmp_path), {}), produce, {"most": 2})
    with pytest.raises(AssertionError, match="ended with exit code 1"):
        child.start()
    child.kill()


def test_a_child_has_to_say_what_is_expected(tmp_path: Path) -> None:
    child = KitChild(partial(open_queue, "file", str(tmp_path), {}), produce, {"most": 1})
    with pytest.raises(AssertionError, match="said 'ready' instead of 'steady'"):
        child.expect("steady")
    child.kill()


def test_only_what_can_be_named_opens_a_store_elsewhere() -> None:
    assert describe(ListQueue) == {
        "module": "tests.conformance.list_queue",
        "name": "ListQueue",
        "args": [],
        "kwargs": {},
    }
    with pytest.raises(TypeError, match="top level of a module"):
        describe(lambda: MemoryJobQueue())  # noqa: PLW0108  # a lambda is what is tested
