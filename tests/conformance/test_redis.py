"""Holds the Redis backends to the laws of the kit."""

from __future__ import annotations

import pytest

from tests.conformance.on_server import (
    MARKS,
    QueueOnServer,
    ResultsBesideTheirQueue,
    ResultsOnServer,
)
from tests.lab.stores import LabLaws

pytestmark = MARKS


class TestRedis(QueueOnServer):
    backend = "redis"


@pytest.mark.slow
class TestRedisInTheLab(LabLaws, TestRedis):
    points_step = pauses_step = 100  # its calls have more points, and each a round trip
    crowd_calls = 100


class TestRedisResults(ResultsOnServer):
    backend = "redis"


class TestRedisBesideItsQueue(ResultsBesideTheirQueue):
    backend = "redis"
