"""Finds mutants of a module that its tests notice, and those that they do not.

``python -m tests.lab.mutants nuvom/core/outcome.py tests/unit/test_retry.py [COUNT]`` prints rows
for ``tests/mutations.toml``, and survivors as comments: a survivor is a missing test, or changes
nothing that matters. Work on a clean checkout: the module is changed in place, and put back.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

RULES = (
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" is not None", " is None"),
    (r" is None", " is not None"),
    (r" and ", " or "),
    (r" or ", " and "),
    (r"if not ", "if "),
    (r" not in ", " in "),
    (r" \+ 1", " + 2"),
    (r" - 1", " - 2"),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r"sorted\(", "list("),
    (r"=True", "=False"),
    (r"=False", "=True"),
    (r"return True", "return False"),
    (r"return False", "return True"),
    (r"\.append\(", ".count("),
    (r"^(\s+)continue$", r"\1pass"),
    (r"^(\s+)raise ", r"\1str() or "),
)


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """Yield lines that are there once, each with what it may become."""
    in_docstring = False
    for line in text.splitlines():
        quotes = line.count('"""')
        in_docstring ^= quotes == 1
        code, old = line.partition("  # ")[0], line.strip()
        is_code = not (quotes or in_docstring or old.startswith(("#", "from ", "import ", "@")))
        if not is_code or len(old) < 12 or text.count(old) != 1:
            continue
        for pattern, becomes in RULES:
            new = re.sub(pattern, becomes, code, count=1)
            if new != code and '"' not in code[: max(0, len(code) - len(new.lstrip()))]:
                yield old, new.strip()


def notices(test: str) -> bool:
    """Run a test, or a file of tests; return whether one has failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 1


def main(place: str, test: str, count: str = "10") -> None:
    """Print so many mutants of a module, drawn at random."""
    module = Path(place)
    sound = module.read_text(encoding="utf-8")
    drawn = list(mutants(sound))
    random.shuffle(drawn)
    try:
        for old, new in drawn[: int(count)]:
            module.write_text(sound.replace(old, new), encoding="utf-8")
            row = {"file": str(module.relative_to("nuvom")), "old": old, "new": new}
            lines = [f"{key} = {json.dumps(value)}" for key, value in row.items()]
            if notices(test):
                print("\n".join(["[[mutation]]", *lines, f"test = {json.dumps(test)}", ""]))
            else:
                print("\n".join(["# survived:", *(f"# {line}" for line in lines), ""]))
    finally:
        module.write_text(sound, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
