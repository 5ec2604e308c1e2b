"""``python -m tools.showcase PATH`` makes the shop in a new folder and keeps it alive.

Then, in that folder: ``nuvom dashboard``, or ``nuvom top``. No job ends while it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nuvom.core.clock import SYSTEM_CLOCK
from tools.showcase.store import showcase


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    with showcase(Path(arguments[0])) as shop:
        print(f"{shop.settings.root} is ready; Ctrl-C ends its workers", flush=True)
        try:
            while True:
                SYSTEM_CLOCK.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
