"""The pytest plugin: no test reaches the project's store, and fixtures give each one its own.

pytest loads it in every run in whose environment Nuvom is installed, so it imports nothing but
pytest; what the fixtures need is loaded when one is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from nuvom.testing.isolated_store import IsolatedStore, StoreTime, StoreWorker

_MARKER = "nuvom"
_BEFORE = pytest.StashKey[bool]()
_STORE = pytest.StashKey["IsolatedStore"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings of the plugin."""
    parser.addini(
        "nuvom_guard",
        "refuse the store of the project to tests without a fixture of Nuvom (default: true)",
        type="bool",
        default=True,
    )
    parser.addini(
        "nuvom_strict",
        "fail tests that leave jobs behind which they have not asserted (default: false)",
        type="bool",
        default=False,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Guard the store before the first file of the user is imported."""
    _guard(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; guard the store, if a conftest.py has loaded this plugin."""
    config.addinivalue_line(
        "markers",
        'nuvom(backend="memory"): give the test a store of its own; "sqlite" is a real file',
    )
    _guard(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was, for a run of pytest within another."""
    if _BEFORE in config.stash:
        _permission().is_guarded = config.stash[_BEFORE]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the marker alone bring a store, as a fixture would."""
    for item in items:
        names = getattr(item, "fixturenames", None)
        if names is not None and _MARKER not in names and item.get_closest_marker(_MARKER):
            names.insert(0, _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """With ``nuvom_strict``, fail a passed test that leaves jobs behind."""
    result = yield
    store = item.stash.get(_STORE, None)
    if store is not None and item.config.getini("nuvom_strict"):
        _refuse_left_behind(store)
    return result


@pytest.fixture
def nuvom(request: pytest.FixtureRequest) -> Iterator[IsolatedStore]:
    """Give the test a store of its own, in memory; the marker ``nuvom`` chooses another backend.

    ``.delay()`` and ``.map()`` store jobs there, and nothing runs them.
    """
    isolated_store = _lazy("isolated_store")
    backend = _backend(request.node, isolated_store.BACKENDS)
    folder = None if backend == "memory" else request.getfixturevalue("tmp_path")
    store: IsolatedStore = isolated_store.IsolatedStore(backend, folder).start()
    try:
        request.node.stash[_STORE] = store
        yield store
        del request.node.stash[_STORE]
    finally:
        store.stop()


@pytest.fixture
def nuvom_inline(nuvom: IsolatedStore) -> IsolatedStore:
    """Run each job as soon as it is enqueued, in the thread that enqueued it."""
    nuvom.run_inline()
    return nuvom


@pytest.fixture
def nuvom_worker(nuvom: IsolatedStore) -> Iterator[StoreWorker]:
    """Run a worker with threads in the background; ``drain()`` waits until it has nothing to do."""
    worker: StoreWorker = _lazy("isolated_store").StoreWorker(nuvom).start()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def nuvom_clock(nuvom: IsolatedStore) -> StoreTime:
    """Stop the time of the test's store, and move it by ``advance()``."""
    time: StoreTime = _lazy("isolated_store").StoreTime(nuvom)
    return time


def _guard(config: pytest.Config) -> None:
    if _BEFORE not in config.stash:
        permission = _permission()
        config.stash[_BEFORE] = permission.is_guarded
        permission.is_guarded = bool(config.getini("nuvom_guard"))


def _permission() -> Any:  # noqa: ANN401  # a module
    from nuvom.config import permission  # noqa: PLC0415  # not with the plugin itself

    return permission


def _lazy(name: str) -> Any:  # noqa: ANN401  # a module
    from importlib import import_module  # noqa: PLC0415  # see above

    return import_module(f"nuvom.testing.{name}")


def _backend(item: pytest.Item, known: tuple[str, ...]) -> str:
    """Return the backend that the test's marker names. Fails the test if there is none such."""
    marker = item.get_closest_marker(_MARKER)
    options = {} if marker is None else dict(marker.kwargs)
    backend = options.pop("backend", known[0])
    if options or (marker is not None and marker.args) or backend not in known:
        choices = " or ".join(f'@pytest.mark.nuvom(backend="{one}")' for one in known)
        pytest.fail(f"The marker nuvom is not understood: write {choices}.", pytrace=False)
    return str(backend)


def _refuse_left_behind(store: IsolatedStore) -> None:
    left = store.left_behind
    if left:
        described = _lazy("isolated_store").described
        listed = "\n".join(f"  {described(job)}" for job in left)
        pytest.fail(
            f"The test leaves jobs behind (nuvom_strict):\n{listed}\n"
            "Run them (nuvom_inline, nuvom_worker), or assert them with assert_enqueued().",
            pytrace=False,
        )
