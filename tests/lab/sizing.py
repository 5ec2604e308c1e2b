"""The example that predicts waiting times, as a module."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "sizing" / "simulate.py"


@cache
def simulation() -> ModuleType:
    """Return the program of the example."""
    spec = importlib.util.spec_from_file_location("sizing_simulate", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look there
    spec.loader.exec_module(loaded)
    return loaded
