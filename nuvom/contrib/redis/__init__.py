"""Jobs and results in Redis or Valkey. Needs ``pip install 'nuvom[redis]'``."""

from nuvom.errors import MissingExtra

try:
    from nuvom.contrib.redis.queue import RedisJobQueue
    from nuvom.contrib.redis.results import RedisResultBackend
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("redis", "hiredis"):
        raise
    raise MissingExtra("nuvom.contrib.redis", "redis") from error

__all__ = ["RedisJobQueue", "RedisResultBackend"]
