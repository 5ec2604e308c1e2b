"""``nuvom`` with as much time as it would have without valgrind, which slows all down fiftyfold.

A worker sizes its batches by time, and hands jobs back that wait too long for a slot. What is to be
counted are the instructions of a job in a full batch.
"""

import importlib
import importlib.util

from nuvom.cli.cli import main

MODULES = ("nuvom.execution.capacity", "nuvom.execution.pace")  # the second one until 0.12


def be_unhurried() -> None:
    """Raise all limits in seconds of the module: there are no settings, and no other needs them."""
    for name in MODULES:
        if importlib.util.find_spec(name):
            inside = vars(importlib.import_module(name))
            limits = [one for one in inside if one.endswith("_SECS")]
            if limits:
                inside.update(dict.fromkeys(limits, 1e9))
                return
    raise RuntimeError(f"no module of {MODULES} sizes the batches of this Nuvom by time")


if __name__ == "__main__":
    be_unhurried()
    main()
