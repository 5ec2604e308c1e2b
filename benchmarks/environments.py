"""The Pythons that peers run in: the common environment, and those of their own inside it.

A peer that does not get along with the others has an environment ``peer-NAME``, which is filled
from ``requirements/bench-NAME.txt``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catalogue import HERE

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import dev  # noqa: E402  # beside this folder
from tools.environment import Environment, SetupFailed  # noqa: E402  # likewise

__all__ = ["SetupFailed", "commit_of", "python_of"]

if TYPE_CHECKING:
    from catalogue import Peer


def python_of(peer: Peer) -> Path:
    """Return the Python that a peer runs in; make its environment first where it has its own.

    Raises: SetupFailed.
    """
    if peer.revision is not None:
        return _python_of_checkout(peer.revision)
    if peer.environment is None:
        return Path(sys.executable)
    place = Environment(
        Path(sys.prefix) / f"peer-{peer.environment}", base=_at_least(peer.oldest_python)
    )
    with place.ready([f"bench-{peer.environment}.txt"]):
        return place.python


def _python_of_checkout(revision: str) -> Path:
    """Return the Python of an environment that has nothing but the Nuvom of a checkout."""
    name, root = "here", ROOT
    if revision != HERE:
        name = commit_of(revision)
        root = Path(sys.prefix) / f"checkout-{name}"
        if not root.exists():
            _git("worktree", "prune")  # of folders that were removed by hand
            _git("worktree", "add", "--detach", str(root), name)
    place = Environment(Path(sys.prefix) / f"nuvom-{name}", root=root)
    with place.ready(["build.txt", "runtime.txt"], "installed"):
        return place.python


def commit_of(revision: str) -> str:
    """Return the commit that a tag, a branch or a number of its own names.

    Raises: SetupFailed.
    """
    return _git("rev-parse", "--short=12", "--verify", f"{revision}^{{commit}}")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SetupFailed(f"git: {done.stderr.strip()}", "Name a commit, a tag or a branch.")
    return done.stdout.strip()


def _at_least(oldest: tuple[int, int]) -> str:
    """Return a Python that is new enough: this one, or another of this machine."""
    if sys.version_info >= oldest:
        return sys.executable
    found = dev.newer_python(oldest)
    if found is None:
        wanted = "{}.{}".format(*oldest)
        raise SetupFailed(f"it needs Python {wanted}, and none was found", f"Install {wanted}.")
    tell = [*found, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(tell, check=True, capture_output=True, text=True).stdout.strip()
