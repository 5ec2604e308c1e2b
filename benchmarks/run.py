"""Measures Nuvom beside its peers and a plain loop, in one run, interleaved.

    python3 dev.py bench                    three rounds of everything
    python3 dev.py bench --quick            one round of a tenth of the jobs: does it work?
    python3 dev.py bench --group servers    Nuvom on PostgreSQL and Redis, beside the peers there
    python3 dev.py bench --only nuvom,huey  peers whose name contains one of these
    python3 dev.py bench --measures drain,enqueue
    python3 dev.py bench --against REF      this checkout beside another commit, five rounds
    python3 dev.py bench --reach            Nuvom's own limits as well (minutes)
    python3 dev.py bench --instructions     count machine instructions for each job as well
    python3 dev.py bench --publish          write the table and chart into README.md and docs/
    python3 dev.py bench --publish --kept benchmarks/results/NAME.json    those of an earlier run

What cannot run here is said loudly and left out. Each measure runs in a process of its own, so
that no peer disturbs another. Results go to ``benchmarks/results/`` as JSON and SVG.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chart
import facts
import reach
import report
from catalogue import GROUPS, before_and_after
from environments import SetupFailed, commit_of, python_of
from measures import MEASURES

if TYPE_CHECKING:
    from catalogue import Peer

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
COMPARED = {
    "files": ("start", "enqueue", "bulk", "drain", "pick_up", "result"),
    "servers": ("enqueue", "drain", "pick_up", "two_workers"),
}
AGAINST = ("start", "enqueue", "drain", "pick_up", "result", "idle")
LIMIT_SECS = 900
QUICK_SCALE = 0.1


def main() -> int:
    """Measure, print, keep; return 1 if something broke that could run."""
    options = _options()
    if options.kept:
        _show(json.loads(options.kept.read_text(encoding="utf-8")), publish=options.publish)
        return 0
    RESULTS.mkdir(exist_ok=True)
    # Beside the checkout and not in /tmp, which may be memory: a flush has to be one.
    with tempfile.TemporaryDirectory(prefix="work-", dir=RESULTS) as folder:
        run = Run(options, Path(folder))
        run.prepare()
        try:
            run.rounds()
        except KeyboardInterrupt:
            print("interrupted: what was measured so far is kept", file=sys.stderr)
        found = run.outcome()
    _keep(found)
    _show(found, publish=options.publish)
    return 1 if run.broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the jobs")
    parser.add_argument("--rounds", type=int, help="how many (3, with --against 5)")
    parser.add_argument("--group", choices=GROUPS, default="files", help="which rows (files)")
    parser.add_argument("--only", default="", help="peers whose name contains one of these")
    parser.add_argument("--measures", default="", help="some of: " + ", ".join(MEASURES))
    parser.add_argument("--against", metavar="REF", help="a commit to compare this checkout with")
    parser.add_argument("--reach", action="store_true", help="Nuvom's own limits as well")
    parser.add_argument("--instructions", action="store_true", help="count them for each job")
    parser.add_argument("--publish", action="store_true", help="write README.md and docs/")
    parser.add_argument("--kept", type=Path, help="measure nothing: show what was kept of a run")
    options = parser.parse_args()
    if options.against and options.publish:
        parser.error("--publish writes the figures of peers, --against measures none")
    options.rounds = options.rounds or (1 if options.quick else 5 if options.against else 3)
    options.scale = QUICK_SCALE if options.quick else 1.0
    return options


class Run:
    """One run: which peers take part, and what was found.

    Attributes:
        rows: What is kept of each peer that takes part: its settings, its figures of each round.
        skipped: Peers that cannot run here, with the reason.
        broken: (peer, measure) that failed, with the message.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.pythons: dict[str, Path] = {}
        self.skipped: dict[str, str] = {}
        self.broken: dict[tuple[str, str], str] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, dict[str, str]] = {}
        self.loads: list[dict[str, float]] = []
        self.facts = facts.machine(folder)
        words = [word for word in options.only.split(",") if word] or [""]
        group = GROUPS[options.group]
        rows = before_and_after(options.against) if options.against else group
        self.peers = [peer for peer in rows if any(word in peer.name for word in words)]

    def prepare(self) -> None:
        """Find out who can take part."""
        for peer in list(self.peers):
            reason = self._cannot(peer)
            if reason is not None:
                self.peers.remove(peer)
                self.skipped[peer.title] = reason
                print(f"SKIPPED: {peer.title}: {reason}", file=sys.stderr)
        if not self.peers or (self.options.against and self.skipped):
            raise SystemExit("nothing is left to measure or to compare")
        if self.options.against:
            self.facts["against"] = commit_of(self.options.against)

    def rounds(self) -> None:
        """Run all rounds. All rows take turns at each measure, in every other round backwards:
        what makes a machine slower for a while is shared by rows that are compared.
        """
        for number in range(self.options.rounds):
            self.loads.append(facts.load())
            print(f"round {number + 1} of {self.options.rounds}: {self.loads[-1]}", file=sys.stderr)
            for peer in self.peers:
                self.rows[peer.name]["rounds"].append({})
            for measure in self._measures():
                order = self.peers[:: -1 if number % 2 else 1]
                for peer in (one for one in order if self._takes(one, measure, number)):
                    self._measure(peer, measure)

    def outcome(self) -> dict[str, Any]:
        """Return everything that was found, as what is kept."""
        done = len(self.loads)
        noisy = [one for one in self.loads if one.get("others_use_cores", 1) > facts.QUIET_CORES]
        return {
            "schema": "nuvom.bench/1",
            "group": self.options.group,
            "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            "rounds": done,
            "is_preliminary": bool(noisy) or self.options.quick or done < 3,  # noqa: PLR2004  # medians need three
            "machine": self.facts,
            "servers": self.servers,
            "loads": self.loads,
            "peers": [
                {**row, "median": report.medians(row["rounds"])} for row in self.rows.values()
            ],
            "skipped": self.skipped,
            "broken": [[*key, message] for key, message in self.broken.items()],
        }

    def _cannot(self, peer: Peer) -> str | None:
        """Return why a peer cannot take part, None when it can."""
        try:
            self.pythons[peer.name] = python_of(peer)
            if peer.server and peer.server not in self.servers:
                self.servers[peer.server] = facts.server(peer.server)
        except (SetupFailed, OSError, subprocess.SubprocessError) as failure:
            return str(failure)
        except Exception as error:  # noqa: BLE001  # of a client library: no server, no rights
            return f"{peer.server} cannot be used here: {str(error).splitlines()[0]}"
        answer = self._probe(peer, "describe")
        if "error" in answer:
            return str(answer["error"])
        known = {"name": peer.name, "title": peer.title, "kind": peer.kind, "server": peer.server}
        self.rows[peer.name] = {**known, **answer["figures"], "rounds": []}
        return None

    def _measures(self) -> list[str]:
        """Return all that any row is measured by, in order."""
        asked = [one for one in self.options.measures.split(",") if one]
        chosen = asked or list(AGAINST if self.options.against else self._usual())
        chosen += ["instructions"] * self.options.instructions
        if self.options.reach and not asked:
            chosen += [one for one in reach.MEASURES if one not in (*chosen, "instructions")]
        return chosen

    def _usual(self) -> tuple[str, ...]:
        return COMPARED[self.options.group]

    def _takes(self, peer: Peer, measure: str, number: int) -> bool:
        """Return whether a row takes part in a measure in this round."""
        if (peer.name, measure) in self.broken:
            return False
        if measure not in reach.MEASURES:
            return True
        is_compared = self.options.against or measure in self._usual()
        is_compared = is_compared and measure != "instructions"
        return (number == 0 or is_compared) and reach.is_for(peer, measure)

    def _measure(self, peer: Peer, measure: str) -> None:
        answer = self._probe(peer, measure)
        if "error" in answer:
            self.broken[peer.name, measure] = answer["error"]
            print(f"BROKEN: {peer.title}, {measure}: {answer['error']}", file=sys.stderr)
            return
        self.rows[peer.name]["rounds"][-1].update(answer["figures"])
        told = ", ".join(f"{name} {value:,.4g}" for name, value in answer["figures"].items())
        if told:
            print(f"  {peer.title}: {told}", file=sys.stderr)

    def _probe(self, peer: Peer, measure: str) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=self.folder))
        variables = {
            **os.environ,
            **peer.variables,
            "BENCH_FOLDER": str(folder),
            "PYTHONPATH": str(HERE),
            "PYTHONUNBUFFERED": "1",
        }
        command = [str(self.pythons[peer.name]), str(HERE / "probe.py"), peer.name, measure]
        try:
            done = subprocess.run(
                [*command, str(self.options.scale)],
                check=False,
                capture_output=True,
                text=True,
                errors="replace",
                env=variables,
                cwd=folder,
                timeout=LIMIT_SECS,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took more than {LIMIT_SECS} s"}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        lines = done.stdout.strip().splitlines()
        try:
            answer: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            tail = done.stderr.strip().splitlines()[-3:]
            return {"error": f"ended with {done.returncode}: {' '.join(tail)}"}
        return answer


def _keep(found: dict[str, Any]) -> None:
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (RESULTS / f"{name}.svg").write_text(chart.drain(found), encoding="utf-8")
    print(f"Kept as benchmarks/results/{name}.json and .svg\n")


def _show(found: dict[str, Any], *, publish: bool) -> None:
    print(report.as_text(found))
    if publish:
        print("Written: " + ", ".join(report.publish(found, chart.drain(found))))


if __name__ == "__main__":
    sys.exit(main())
