"""``nuvom`` whose batches grow as they would on a machine that is fast beyond measure.

A worker sizes its batches by time, and under valgrind everything takes fifty times as long: what
is to be counted are the instructions of a job in a full batch.
"""

import importlib
import importlib.util

from nuvom.cli.cli import main

# Module, and the time that a batch may take; the second one until 0.12.
PLACES = (("nuvom.execution.capacity", "_BATCH_SECS"), ("nuvom.execution.pace", "_MOMENT_SECS"))


def be_unhurried() -> None:
    """Let a batch take as long as it likes: there is no setting, and nobody else needs one."""
    for name, limit in PLACES:
        if importlib.util.find_spec(name):
            inside = vars(importlib.import_module(name))
            if limit in inside:
                inside[limit] = 1e9
                return
    raise RuntimeError(f"this Nuvom has none of {PLACES}")


if __name__ == "__main__":
    be_unhurried()
    main()
