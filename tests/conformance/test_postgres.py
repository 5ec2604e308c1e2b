"""Holds the PostgreSQL backends to the laws of the kit."""

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


class TestPostgres(QueueOnServer):
    backend = "postgres"


@pytest.mark.slow
class TestPostgresInTheLab(LabLaws, TestPostgres):
    points_step = 100  # its calls have more points, and each a round trip
    crowd_calls = 100
    skips_locked = True


class TestPostgresResults(ResultsOnServer):
    backend = "postgres"


class TestPostgresBesideItsQueue(ResultsBesideTheirQueue):
    backend = "postgres"
