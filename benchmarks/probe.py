"""One peer, one measure, in a process of its own: the producer. ``run.py`` starts it.

    probe.py PEER MEASURE SCALE

The last line of its output is JSON: the figures, or what went wrong.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from catalogue import named


def main(name: str, measure: str, scale: float) -> dict[str, Any]:
    """Return what one measure of one peer gives."""
    peer = named(name)
    adapter = importlib.import_module(peer.module).adapter()
    adapter.peer = peer
    adapter.open()
    try:
        if measure == "describe":
            return {
                "versions": adapter.versions(),
                "durability": adapter.durability,
                "keeps_results": adapter.keeps_results,
                "worker": adapter.worker_text,
            }
        return _measured(measure, adapter, scale)
    finally:
        adapter.close()


def _measured(measure: str, adapter: Any, scale: float) -> dict[str, Any]:  # noqa: ANN401  # of any peer
    import measures  # noqa: PLC0415  # not to describe
    import reach  # noqa: PLC0415  # likewise

    known = measures.MEASURES | reach.MEASURES
    return dict(known[measure](adapter, scale))


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"figures": main(sys.argv[1], sys.argv[2], float(sys.argv[3]))}
    except Exception as error:  # noqa: BLE001  # of any peer: it is reported, not swallowed
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
    # Connections and loops of third parties may keep a process alive for long.
    os._exit("error" in answer)
