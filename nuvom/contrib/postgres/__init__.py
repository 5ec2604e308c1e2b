"""Jobs and results in PostgreSQL. Needs ``pip install 'nuvom[postgres]'``."""

from nuvom.errors import MissingExtra

try:
    from nuvom.contrib.postgres.queue import PostgresJobQueue
    from nuvom.contrib.postgres.results import PostgresResultBackend
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "psycopg":
        raise
    raise MissingExtra("nuvom.contrib.postgres", "postgres") from error

__all__ = ["PostgresJobQueue", "PostgresResultBackend"]
