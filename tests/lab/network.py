"""Three hosts on one machine: network namespaces of Linux, whose links can be cut.

``server`` is where a server runs, ``left`` and ``right`` are where workers run; the test is linked
to them as well. It takes root's rights, and ``ip`` and ``bridge`` of iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import count
from typing import Self

import pytest

_HOSTS = ("server", "left", "right")
_NUMBERS = count(os.getpid())
_BLOCKED, _FORWARDING = "0", "3"  # states of a bridge's port


class Network:
    """The hosts, for the time of a ``with`` block. Skips, loudly, where they cannot be made.

    Attributes:
        address: Where all reach the server.
    """

    def __init__(self) -> None:
        number = next(_NUMBERS) % 250
        self._name = f"nuvom{number}"
        self._subnet = f"198.18.{number}"  # set apart for tests of networks
        self.address = f"{self._subnet}.1"

    def __enter__(self) -> Self:
        reason = self._why_not()
        if reason is not None:
            pytest.skip(f"NOT PROVED HERE: network namespaces cannot be made: {reason}")
        try:
            self._at_server("link", "add", "hub", "type", "bridge")
            self._set_up("server", "hub", 1)
            for number, place in enumerate(("left", "right", "test"), 2):
                self._link(place, number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _run("ip", "link", "del", f"{self._name}-test", check=False)
        for host in _HOSTS:
            _run("ip", "netns", "del", self._space(host), check=False)

    def prefix(self, host: str) -> tuple[str, ...]:
        """Return what a command begins with, to run on a host."""
        return ("ip", "netns", "exec", self._space(host))

    def cut(self, host: str) -> None:
        """Lose all packets between a host and the others. Nobody is told."""
        self._forward(host, _BLOCKED)

    def mend(self, host: str) -> None:
        """Undo ``cut``."""
        self._forward(host, _FORWARDING)

    def _forward(self, host: str, state: str) -> None:
        _run(
            "bridge",
            "-n",
            self._space("server"),
            "link",
            "set",
            "dev",
            f"to-{host}",
            "state",
            state,
        )

    def _link(self, place: str, number: int) -> None:
        """Link a place to the bridge that is where the server is."""
        end = f"{self._name}-{place}"
        where = str(os.getpid()) if place == "test" else self._space(place)
        self._at_server("link", "add", f"to-{place}", "type", "veth", "peer", "name", end)
        self._at_server("link", "set", f"to-{place}", "master", "hub", "up")
        self._at_server("link", "set", end, "netns", where)
        self._set_up(place, end, number)
        # They know each other for good, as beyond a router: else a host whose link is cut would be
        # told, before long, that nobody is there.
        self._meet(place, end, 1)
        self._meet("server", "hub", number)

    def _set_up(self, place: str, name: str, number: int) -> None:
        self._at(place, "addr", "add", f"{self._subnet}.{number}/24", "dev", name)
        self._at(place, "link", "set", name, "address", _hardware(number), "up")
        self._at(place, "link", "set", "lo", "up")

    def _meet(self, place: str, name: str, other: int) -> None:
        lasting = ("lladdr", _hardware(other), "nud", "permanent")
        self._at(place, "neigh", "replace", f"{self._subnet}.{other}", *lasting, "dev", name)

    def _at(self, place: str, *words: str) -> None:
        inside = () if place == "test" else ("-n", self._space(place))
        _run("ip", *inside, *words)

    def _at_server(self, *words: str) -> None:
        self._at("server", *words)

    def _space(self, host: str) -> str:
        return f"{self._name}-{host}"

    def _why_not(self) -> str | None:
        if shutil.which("ip") is None or shutil.which("bridge") is None:
            return "ip and bridge are not installed (iproute2)"
        made = [_run("ip", "netns", "add", self._space(host), check=False) for host in _HOSTS]
        return next((one.stderr.strip() for one in made if one.returncode), None)


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True)
