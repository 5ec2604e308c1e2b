"""Decides which files and folders to skip: ``.nuvomignore`` files and the default skip list.

The rules are those of Git's ignore files: later lines win, an ignore file in a deeper folder wins
over one higher up, ``!`` re-includes, and nothing inside a hidden folder can be re-included.
The default skip list has the lowest precedence. Used by ``walker.py`` and ``explain.py``.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

from nuvom.discovery.entries import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pathspec import RegexPattern

IGNORE_FILE = ".nuvomignore"
# A folder that holds one of these is an environment with installed packages.
ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})

OUTPUT_FOLDERS = frozenset({"build", "dist"})  # unless they are packages of the project
_SKIPPED = OUTPUT_FOLDERS | {"venv", "node_modules", "__pycache__", "site-packages"}
_WILDCARDS = frozenset("*?[")
# The group in pathspec's regular expressions that captures the slash after a matching folder.
_FOLDER_MARK = "ps_d"


class Rule(NamedTuple):
    """One line of an ignore file, or one option, that matches a path.

    Attributes:
        hides: False for a line that starts with ``!``.
        pattern: The line as written.
        source: Where it stands: ``.nuvomignore line 3:`` or ``--exclude``.
    """

    hides: bool
    pattern: str
    source: str

    @property
    def names_its_target(self) -> bool:
        """Whether the last part of the pattern is a plain name, as in ``!build/``."""
        return not _WILDCARDS & set(self.pattern.rstrip("/").rpartition("/")[2])

    def __str__(self) -> str:
        return f"{self.source} {self.pattern}"


class PatternList:
    """The patterns from one ignore file or one option.

    Args:
        origin: Path of the ignore file relative to the root, or the option.
        folder: The folder that the patterns are relative to: ``""`` for the root, else with a
            trailing slash.

    Attributes:
        problems: Lines that are not valid patterns; they have no effect.
    """

    def __init__(self, lines: Iterable[str], origin: str, folder: str = "") -> None:
        self.problems: list[Problem] = []
        self._origin = origin
        self._folder = folder
        self._patterns = list(self._compiled(lines))

    def rule_for(self, path: str) -> Rule | None:
        """Return the line that decides on ``path``, or None.

        Args:
            path: Relative to the root; ends in a slash for a folder. It must be inside this
                list's folder.
        """
        relative = path[len(self._folder) :]
        for pattern, rule in self._patterns:
            if _fits(pattern, relative):
                return rule
        return None

    def _compiled(self, lines: Iterable[str]) -> Iterable[tuple[RegexPattern, Rule]]:
        """Yield each pattern with its line, starting with the last line, which wins."""
        for number, raw in reversed(list(enumerate(lines, start=1))):
            text = raw.rstrip("\r\n")
            try:
                patterns = _pathspec_patterns(_as_git_means(text))
            except (ValueError, re.error):
                reason = f"`{text.strip()}` is not a valid pattern and is not used"
                self.problems.append(Problem(self._origin, number, reason, "warning"))
                continue
            for pattern in patterns:  # none for an empty line
                if pattern.include is not None:  # None: a comment
                    is_option = self._origin.startswith("--")
                    source = self._origin if is_option else f"{self._origin} line {number}:"
                    yield pattern, Rule(pattern.include, text.strip(), source)


_NO_PATTERNS = PatternList((), "")


class IgnoreRules:
    """All rules that apply in one folder. Immutable.

    Args:
        lists: From the root's ``.nuvomignore`` to that of the deepest folder.
        exclude: Patterns that take precedence over all of them.
        include: If given, only files that match one of these patterns are considered.
    """

    __slots__ = ("_exclude", "_include", "_lists")

    def __init__(
        self,
        lists: Sequence[PatternList] = (),
        *,
        exclude: PatternList = _NO_PATTERNS,
        include: PatternList | None = None,
    ) -> None:
        self._lists = tuple(lists)
        self._exclude = exclude
        self._include = include

    @property
    def problems(self) -> list[Problem]:
        """The invalid patterns among those given as options."""
        return self._exclude.problems + (self._include.problems if self._include else [])

    def within(self, patterns: PatternList) -> IgnoreRules:
        """Return the rules for a folder with its own ignore file."""
        lists = (*self._lists, patterns)
        return IgnoreRules(lists, exclude=self._exclude, include=self._include)

    def why_file(self, path: str) -> str | None:
        """Return what hides the file ``path``, or None."""
        rule = self._rule_for(path)
        if rule is not None and rule.hides:
            return str(rule)
        if self._include is not None and not _is_asked_for(path, self._include):
            return "no --include pattern fits it"
        return None

    def why_folder(self, path: str, *, is_package: bool = False) -> str | None:
        """Return what hides the folder ``path`` (no trailing slash), or None."""
        rule = self._rule_for(f"{path}/")
        if rule is not None and rule.hides:
            return str(rule)
        name = path.rpartition("/")[2]
        is_wanted = _brings_back(rule) or (is_package and name in OUTPUT_FOLDERS)
        return None if is_wanted else _why_skipped(name)

    def brings_back(self, path: str) -> bool:
        """Return whether a line such as ``!name/`` re-includes the folder ``path`` by name."""
        return _brings_back(self._rule_for(f"{path}/"))

    def _rule_for(self, path: str) -> Rule | None:
        for patterns in (self._exclude, *reversed(self._lists)):
            rule = patterns.rule_for(path)
            if rule is not None:
                return rule
        return None


def _brings_back(rule: Rule | None) -> bool:
    # `!*/`, common in allowlists, must not re-include `.venv` and `node_modules`.
    return rule is not None and not rule.hides and rule.names_its_target


def _is_asked_for(path: str, include: PatternList) -> bool:
    parts = path.split("/")
    folders = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
    rules = (include.rule_for(one) for one in (*folders, path))
    return any(rule is not None and rule.hides for rule in rules)


def _why_skipped(name: str) -> str | None:
    remedy = f"`!{name}/` in {IGNORE_FILE} brings it back"
    if name in _SKIPPED or name.endswith(".egg-info"):
        return f"folders named {name} are skipped by default; {remedy}"
    if name.startswith("."):
        return f"hidden folders such as {name} are skipped by default; {remedy}"
    return None


def _pathspec_patterns(line: str) -> list[RegexPattern]:
    from pathspec import GitIgnoreSpec  # noqa: PLC0415  # only a project that has patterns pays

    with warnings.catch_warnings():  # `[[a]` gives a regular expression that Python warns about
        warnings.simplefilter("ignore")
        return list(GitIgnoreSpec.from_lines([line]).patterns)


def _as_git_means(line: str) -> str:
    """Translate ``line`` into a pattern that pathspec interprets as Git would.

    For Git, ``folder/**`` matches everything inside the folder but not the folder itself.
    Pathspec hides the folder too, so that nothing inside it could be re-included. For Git, ``*/``
    matches every folder; pathspec matches only the topmost.
    """
    pattern = line.rstrip()
    if pattern.endswith("/**"):
        return f"{pattern}/*"
    if pattern.endswith("/**/"):
        return f"{pattern}?*/"
    bare = pattern.removeprefix("!")
    return pattern.replace(bare, "?*/") if bare in {"*/", "**/"} else line


def _fits(pattern: RegexPattern, path: str) -> bool:
    """Return whether a pattern matches ``path`` itself, and not just a folder above it.

    The walk has already checked the folders above. If they counted again, ``!/app/`` would
    re-include every hidden folder inside ``app``.
    """
    found = pattern.match_file(path)
    if found is None:
        return False
    match = found.match
    if match.re.groupindex.get(_FOLDER_MARK) is None or match[_FOLDER_MARK] is None:
        return True
    return match.end(_FOLDER_MARK) == len(path) and path.endswith("/")
