"""Runs the Python snippets of one page in one namespace; a child process of ``story.py``.

Each line of stdin is a snippet as JSON, each line of the answers' stream says how it ended.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from types import ModuleType


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a snippet prints must not look like an answer
    sys.path.insert(0, "")
    # Its own module, so that the classes of a page are found by the annotations that name them.
    page = sys.modules["page"] = ModuleType("page")
    for line in sys.stdin:
        answers.write(json.dumps({"error": run(page, **json.loads(line))}) + "\n")
        answers.flush()


def run(page: ModuleType, source: str, name: str, line: int) -> str | None:
    """Run one snippet; return the traceback of its failure, or None."""
    try:
        code = compile("\n" * (line - 1) + source, name, "exec", dont_inherit=True)
        exec(code, vars(page))  # our own documentation
    except BaseException:  # noqa: BLE001  # whatever a snippet raises is reported by the test
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    main()
