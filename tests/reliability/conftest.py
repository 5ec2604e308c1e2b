"""What the proofs of the delivery promises share: seeds to replay, and figures to show.

The figures of a run are printed at its end (tests/conftest.py), also when everything passed: a
promise is proved by what was counted, not by a green dot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nuvom.host import crashpoint, worker_lock
from nuvom.queue_backends import file as file_store
from nuvom.queue_backends.sqlite import store as sqlite_store
from tests.engine import Engine, make_runtime
from tests.lab.iofaults import compiled, why_not
from tests.reliability.images import Recording, in_memory
from tests.reliability.workspace import children


@pytest.fixture
def figures(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[str], None]:
    """Return what keeps a line for the end of the run."""

    def keep(line: str) -> None:
        record_property("figure", f"{request.node.name}: {line}")
        print(line)

    return keep


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """Return a folder for servers, which a user that they run as may enter."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def iofaults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that records calls and lets them fail, or skip and say why."""
    reason = why_not()
    if reason is not None:
        pytest.skip(f"NOT PROVED HERE: {reason}")
    return compiled(tmp_path_factory.mktemp("iofaults"))


@pytest.fixture
def next_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has started anew since the stores were used that are opened now."""
    for module in (sqlite_store, file_store, worker_lock):
        monkeypatch.setattr(module, "boot_id", lambda: "the next boot")


@pytest.fixture
def recording(
    iofaults: Path, tmp_path: Path, next_boot: None
) -> Iterator[Callable[..., Recording]]:
    """Return what makes a recording of a backend, by default on a disk."""
    numbers = count()
    with ExitStack() as stack:

        def make(backend: str, mode: str = "full", *, on_disk: bool = True) -> Recording:
            folder = tmp_path / f"recording{next(numbers)}"
            if on_disk:
                folder.mkdir()
            else:
                folder = Path(stack.enter_context(in_memory()))
            return Recording(iofaults, folder, backend, mode)

        yield make


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return another seed in each run, and say how to run this test with the same one again."""
    given = os.environ.get("TEST_SEED")
    seed = int(given) if given else int.from_bytes(os.urandom(3), "big")
    print(f"to replay: TEST_SEED={seed} python3 dev.py test '{request.node.nodeid}'")
    return seed


@pytest.fixture
def engine(project: Path) -> Iterator[Engine]:
    """Use an engine on one SQLite file."""
    with Engine(make_runtime(project, queue_backend="sqlite", result_backend="sqlite")) as engine:
        yield engine


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Leave no crash point armed, and no child of this test alive."""
    before = len(children)
    yield
    crashpoint.arm(None)
    while len(children) > before:
        children.pop().close()
