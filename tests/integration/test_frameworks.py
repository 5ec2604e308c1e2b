"""A job in a transaction of SQLAlchemy's or Django's is there with its commit, or never.

A ``Connection`` and a ``Session`` of SQLAlchemy and ``django.db.connection``, each on PostgreSQL
and on the SQLite file of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

import nuvom
from nuvom import task
from nuvom.config.sources import load
from nuvom.runtime import Runtime, build_runtime, current_runtime
from tests.engine import in_use
from tests.lab.servers import POSTGRES, drop_schemas, need_postgres, new_schema

INSERT = "INSERT INTO orders (id) VALUES (1)"
Enter = Callable[["Store"], AbstractContextManager[Any]]


class RolledBackError(Exception):
    """What an application raises in a transaction of its own."""


@task(name="tests.frameworks.add")
def add(x: int, y: int) -> int:
    return x + y


class Store:
    """A store that an application shares, with a table of its own.

    Attributes:
        django: Its address for Django.
    """

    def __init__(self, url: str, django: dict[str, Any], schema: str | None) -> None:
        self.django = django
        arguments = {} if schema is None else {"options": f"-c search_path={schema}"}
        self.engine = sa.create_engine(url, connect_args=arguments)
        with self.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))

    def seen(self) -> tuple[int, int]:
        """Return how many jobs and orders others see."""
        with self.engine.connect() as connection:
            orders = connection.execute(sa.text("SELECT count(*) FROM orders")).scalar_one()
        return current_runtime().queue.qsize(), orders


# ---- the stores -----------------------------------------------------------------------------


@contextmanager
def sqlite_store(project: Path) -> Iterator[tuple[Runtime, Store]]:
    with in_use(build_runtime(load(project, environ={}))) as runtime:
        runtime.queue.start()
        place = str(runtime.settings.db_path)
        django = {"ENGINE": "django.db.backends.sqlite3", "NAME": place}
        yield runtime, Store(f"sqlite:///{place}", django, None)


@contextmanager
def postgres_store(project: Path) -> Iterator[tuple[Runtime, Store]]:
    need_postgres()
    schema = new_schema()
    chosen = {"queue_backend": "postgres", "result_backend": "postgres"}
    place = {"postgres_dsn": POSTGRES, "postgres_schema": schema}
    url = sa.make_url(POSTGRES).set(drivername="postgresql+psycopg")
    django = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.host,
        "PORT": url.port,
        "OPTIONS": {"options": f"-c search_path={schema}"},
    }
    try:
        with in_use(build_runtime(load(project, environ={}, overrides={**chosen, **place}))) as one:
            yield one, Store(url.render_as_string(hide_password=False), django, schema)
    finally:
        drop_schemas(schema)


# ---- the frameworks: a transaction that commits at its end, and rolls back on an exception -------


@contextmanager
def of_connection(store: Store) -> Iterator[sa.Connection]:
    with store.engine.begin() as connection:
        connection.execute(sa.text(INSERT))
        yield connection


@contextmanager
def of_session(store: Store) -> Iterator[Session]:
    with Session(store.engine) as session, session.begin():
        session.execute(sa.text(INSERT))
        yield session


@contextmanager
def of_django(store: Store) -> Iterator[Any]:
    import django
    from django.conf import settings
    from django.db import connection, connections, transaction

    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
        django.setup()
    connections.settings = connections.configure_settings({"default": store.django})
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(INSERT)
            yield connection
    finally:
        connections.close_all()
        del connections["default"]


STORES = {"sqlite": sqlite_store, "postgres": postgres_store}
FRAMEWORKS = {"connection": of_connection, "session": of_session, "django": of_django}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, project: Path) -> Iterator[Store]:
    with STORES[request.param](project) as (_, store):
        yield store
        store.engine.dispose()


@pytest.fixture(params=FRAMEWORKS)
def transaction(request: pytest.FixtureRequest) -> Enter:
    return FRAMEWORKS[request.param]


def roll_back(store: Store, transaction: Enter) -> None:
    with transaction(store) as given:
        add.options(connection=given).delay(2, 3)
        raise RolledBackError


def test_a_commit_stores_the_job_with_the_callers_rows(store: Store, transaction: Enter) -> None:
    with transaction(store) as given:
        job = add.options(connection=given).delay(2, 3)
        more = add.options(connection=given).map([(1, 2), (3, 4)])
        assert store.seen() == (0, 0), "others see it before the commit"
    assert store.seen() == (3, 1)
    nuvom.notify()
    with nuvom.local_worker():
        assert job.get(timeout=20) == 5
        assert [one.get(timeout=20) for one in more] == [3, 7]


def test_a_rollback_drops_the_job_with_the_callers_rows(store: Store, transaction: Enter) -> None:
    with pytest.raises(RolledBackError):
        roll_back(store, transaction)
    assert store.seen() == (0, 0)


def test_postgres_wakes_a_worker_after_the_commit(project: Path, transaction: Enter) -> None:
    """Not before it: the worker would find nothing, and sleep on."""
    need_postgres()
    import psycopg

    with ExitStack() as stack:
        runtime, store = stack.enter_context(postgres_store(project))
        listener = stack.enter_context(psycopg.connect(POSTGRES, autocommit=True))
        listener.execute(f'LISTEN "nuvom_{runtime.settings.postgres_schema}"')
        with transaction(store) as given:
            add.options(connection=given).delay(2, 3)
            listener.execute("SELECT 1")  # brings what has been sent until now
            assert list(listener.notifies(timeout=0)) == []
        assert len(list(listener.notifies(timeout=20, stop_after=1))) == 1
        with pytest.raises(RolledBackError):
            roll_back(store, transaction)
        listener.execute("SELECT 1")
        assert list(listener.notifies(timeout=0)) == []
        store.engine.dispose()
