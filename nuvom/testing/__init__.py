"""Helpers for tests of tasks, applications and plugins.

``nuvom.testing.conformance`` holds the laws that every backend must keep, and needs pytest.
"""

from __future__ import annotations

from nuvom.testing.builders import make_job, make_settlement
from nuvom.testing.clock import FakeClock

__all__ = ["FakeClock", "make_job", "make_settlement"]
