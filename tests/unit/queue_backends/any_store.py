"""Opens stores of all kinds for tests of what goes from one to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from nuvom.config.settings import Settings
from nuvom.queue_backends.file import FileJobQueue
from nuvom.queue_backends.memory import MemoryJobQueue
from nuvom.queue_backends.sqlite import SQLiteJobQueue
from nuvom.queue_backends.store import StoreQueue
from tests.lab.servers import (
    POSTGRES,
    REDIS,
    drop_prefixes,
    drop_schemas,
    need_redis,
    new_prefix,
    new_schema,
)

Open = Callable[..., StoreQueue]


@contextmanager
def opening(folder: Path) -> Iterator[Open]:
    """Give a function that opens a new store of a kind."""
    opened: list[StoreQueue] = []
    schemas, prefixes, folders = list[str](), list[str](), count()

    def make(kind: str, **given: Any) -> StoreQueue:
        root = folder / str(next(folders))
        queue: StoreQueue
        if kind == "postgres":
            from nuvom.contrib.postgres import PostgresJobQueue  # needs psycopg

            schemas.append(new_schema())
            settings = Settings(
                root=root, postgres_dsn=POSTGRES, postgres_schema=schemas[-1], **given
            )
            queue = PostgresJobQueue(settings)
        elif kind == "redis":
            need_redis()
            from nuvom.contrib.redis import RedisJobQueue  # needs redis

            prefixes.append(new_prefix())
            settings = Settings(root=root, redis_url=REDIS, redis_prefix=prefixes[-1], **given)
            queue = RedisJobQueue(settings)
        else:
            classes: dict[str, Any] = {
                "file": FileJobQueue,
                "sqlite": SQLiteJobQueue,
                "memory": MemoryJobQueue,
            }
            queue = classes[kind](Settings(root=root, **given))
        opened.append(queue)
        return queue

    yield make
    for queue in opened:
        queue.stop()
    drop_schemas(*schemas)
    drop_prefixes(*prefixes)
