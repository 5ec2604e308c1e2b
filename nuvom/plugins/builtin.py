"""The backends that come with Nuvom, named by text.

The loader imports the one that is chosen, the way it imports a third party's; nothing else
in the package names an adapter.
"""

from __future__ import annotations

from nuvom.plugins.registry import BackendKind

BUILT_IN: dict[BackendKind, dict[str, str]] = {
    BackendKind.QUEUE: {
        "file": "nuvom.queue_backends.file:FileJobQueue",
        "memory": "nuvom.queue_backends.memory:MemoryJobQueue",
        "sqlite": "nuvom.queue_backends.sqlite:SQLiteJobQueue",
    },
    BackendKind.RESULT: {
        "file": "nuvom.result_backends.file:FileResultBackend",
        "memory": "nuvom.result_backends.memory:MemoryResultBackend",
        "sqlite": "nuvom.result_backends.sqlite:SQLiteResultBackend",
    },
}
