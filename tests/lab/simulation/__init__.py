"""A seeded simulation of workers on virtual time: the whole of delivery, thousands of times over.

The real pump, keeper, delivery and runner of several worker processes work on one real queue,
single-threaded, on a clock that only the simulation moves. Processes die in the middle of a call,
freeze past their leases, are stopped and started anew; calls of the store fail or lose their
answers; wall clocks are wrong and are set. One seed is one run, and gives the same run again:

    python -m tests.lab.simulation --seed 42
"""

from __future__ import annotations

from tests.lab.simulation.run import Report, simulate

__all__ = ["Report", "simulate"]
