"""The verbs of ``dev.py``: each makes its environment ready, runs its tools, returns a code."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.environment import Environment, SetupFailed
from tools.run import ROOT, run, run_side_by_side, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORE_COVERAGE = 95  # per cent of branches, layers 0 to 4
LINT_FILES = ["build.txt", "test.txt", "lint.txt"]  # the tests' types need what tests import
PROCESSES = min(8, 2 * (os.cpu_count() or 1))  # tests mostly wait: for disks, children, leases
DJANGO_PYTHON = (3, 12)  # the oldest that Django 6 runs on
NO_TESTS = 5  # pytest's exit code when it collected nothing
ABOUT = {  # how long a whole run takes, on two cores that have nothing else to do
    "--slow": "30 minutes",
    "--coverage": "10 minutes",
    "--sample": "2 minutes",
}


def main(argv: list[str]) -> int:
    """Run the verb that ``argv`` names; return its tool's exit code.

    1 stands for an environment that could not be made, 2 for a wrong call.
    """
    options, rest = _parser().parse_known_args(argv)
    verb: Callable[[argparse.Namespace, list[str]], int] = options.run
    try:
        if rest and verb not in (test, bench):
            _parser().error(f"{options.verb} does not know {' '.join(rest)}")
        return verb(options, rest)
    except SetupFailed as failure:
        say(f"{failure}\nFix: {failure.fix}")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py", allow_abbrev=False, description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in (demo, test, lint, check, bench, docs):
        name = verb.__name__
        summary = (verb.__doc__ or "").partition("\n")[0]
        one = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        one.set_defaults(run=verb, slow=False, sample=None, second_python=None)
        one.set_defaults(coverage=False, fix=False, serve=False)
        if verb is test:
            tiers = "[--slow | --sample [DATE] | --second-python [DATE]]"
            one.usage = f"dev.py test [PATH...] {tiers} [--coverage] [pytest's options]"
            tier = one.add_mutually_exclusive_group()
            tier.add_argument("--slow", action="store_true", help="the slow tier as well")
            tier.add_argument(
                "--sample",
                metavar="DATE",
                nargs="?",
                const=_today(),
                help="nothing but a tenth of the slow tier, another one each day",
            )
            tier.add_argument(
                "--second-python",
                metavar="DATE",
                nargs="?",
                const=_today(),
                help="without the tests whose outcome does not depend on the version of Python and "
                "with a fifth of the others, another one each day",
            )
            one.add_argument("--coverage", action="store_true", help="measure branch coverage")
        if verb is lint:
            one.add_argument("--fix", action="store_true", help="repair what can be repaired")
        if verb is docs:
            one.add_argument("--serve", action="store_true", help="show it, and follow changes")
    return parser


def demo(options: argparse.Namespace, rest: list[str]) -> int:  # noqa: ARG001  # all verbs alike
    """Run the tour, then the checksums example, on a copy installed as users get it."""
    place = _environment()
    with place.ready(["build.txt", "runtime.txt"], "installed"):
        say("nuvom demo")
        code = run(place.bin / "nuvom", "demo", env=place.variables())
        if code == 0:
            say("examples/checksums/run.py")
            code = place.run(ROOT / "examples" / "checksums" / "run.py")
        if code == 0:
            say(f'nuvom is {place.bin / "nuvom"}; to have it elsewhere: pip install "{ROOT}"')
        return code


def test(options: argparse.Namespace, rest: list[str]) -> int:
    """Run all tests but the slow ones, or those named."""
    place = _environment()
    given = {"--slow": options.slow, "--coverage": options.coverage, "--sample": options.sample}
    asked = [name for name, is_given in given.items() if is_given]
    with place.ready(["build.txt", "test.txt"], "editable"):
        began = time.monotonic()
        if asked and not rest:
            longest = ABOUT[asked[0]] if len(asked) == 1 else "an hour"
            say(f"test {' '.join(asked)}: about {longest} on two quiet cores")
        if options.second_python and sys.version_info >= DJANGO_PYTHON:
            # Without them, the tests that need them say that they prove nothing.
            place.run("-m", "tools.django_sources")
        if options.coverage:
            place.run("-m", "coverage", "erase")
        code = max(
            place.run(*["-m", "coverage", "run"] * options.coverage, "-m", "pytest", *chosen)
            for chosen in _runs(rest, options)
        )
        if options.coverage:
            code = _report_coverage(place) or code
    if code == NO_TESTS:
        say("no test was collected")
    if asked:
        say(f"test {' '.join(asked)}: took {_duration(time.monotonic() - began)}")
    return code


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def _duration(secs: float) -> str:
    return f"{secs // 60:.0f} min {secs % 60:.0f} s"


def _runs(rest: list[str], options: argparse.Namespace) -> list[list[str]]:
    """Return pytest's arguments for each run, one after the other."""
    chosen = [_from_root(part) for part in rest]
    chosen += ["--slow"] * options.slow
    chosen += [f"--second-python={options.second_python}"] if options.second_python else []
    chosen += [f"--sample={options.sample}"] if options.sample else []
    if rest:  # those that somebody names run one by one, under a debugger if need be
        return [chosen]
    many = [*chosen, f"--numprocesses={PROCESSES}"]
    # Small portions: slow ones are to be shared out evenly, and come first where all are run.
    shared_out = "--maxschedchunk=1"
    if options.sample:
        return [[*many, shared_out]]
    if not options.slow:
        return [many]
    return [[*many, shared_out, "-m", "not alone"], [*chosen, "-m", "alone"]]


def _from_root(argument: str) -> str:
    """Return a path of the caller's folder as one that is right in the root, too."""
    path, colons, name = argument.partition("::")
    exists = not path.startswith("-") and os.path.exists(path)
    return f"{os.path.abspath(path)}{colons}{name}" if exists else argument


def _report_coverage(place: Environment) -> int:
    core = ROOT / ".coverage-core"
    code = place.run("-m", "coverage", "combine", "--quiet")
    code = code or place.run("-m", "tests.architecture.layers", core)
    if code != 0:
        return code
    place.run("-m", "coverage", "report")
    say(f"the core, layers 0 to 4, has to reach {CORE_COVERAGE} %:")
    include = f"--include={core.read_text(encoding='utf-8').strip()}"
    return place.run("-m", "coverage", "report", f"--fail-under={CORE_COVERAGE}", include)


def lint(options: argparse.Namespace, rest: list[str]) -> int:  # noqa: ARG001  # all verbs alike
    """Check format, lint, spelling, types, architecture and links; change nothing."""
    place = _environment()
    failed = []
    with place.ready(LINT_FILES, "editable"):
        for name, arguments in _quick_steps(fix=options.fix):
            say(f"lint: {name}")
            if place.run("-m", *arguments) != 0:
                failed.append(name)
        steps = list(_long_steps())
        python: str | Path = place.python
        commands = [((python, "-m", *words), cwd) for _, cwd, words in steps]
        answers = run_side_by_side(commands, place.variables(), os.cpu_count() or 1)
        for (name, *_), (code, output) in zip(steps, answers, strict=True):
            say(f"lint: {name}")
            print(output, end="")
            failed += [name] * (code != 0)
    if not failed:
        say("lint passed")
    else:
        hint = "" if options.fix else " (python3 dev.py lint --fix repairs what can be)"
        say(f"lint failed: {', '.join(failed)}{hint}")
    return 1 if failed else 0


def _quick_steps(*, fix: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield name, and module with arguments, of the checks that take a second or two."""
    yield "format", ["ruff", "format", *([] if fix else ["--check"]), "."]
    yield "ruff", ["ruff", "check", "--quiet", *(["--fix"] if fix else []), "."]
    yield "spelling", ["codespell_lib"]
    yield "links", ["tests.architecture.pages"]


def _long_steps() -> Iterator[tuple[str, Path, list[str]]]:
    """Yield (name, folder to run in, module and arguments) of the others, the longest first."""
    ours = [name for name in ("nuvom", "tests", "tools", "dev.py") if (ROOT / name).exists()]
    yield "types", ROOT, ["mypy", *ours]
    for platform in ("win32", "darwin"):  # finds what is called there and does not exist
        cache = f"--cache-dir=.mypy_cache/{platform}"
        yield f"types on {platform}", ROOT, ["mypy", "--platform", platform, cache, "nuvom"]
    settings = f"--config-file={ROOT / 'pyproject.toml'}"
    # Each example, and the benchmarks, from their own folder, as they are run.
    apart = sorted({path.parent for path in (ROOT / "examples").glob("*/*.py")})
    apart += [ROOT / "benchmarks"] if (ROOT / "benchmarks").exists() else []
    for folder in apart:
        cache = f"--cache-dir={ROOT / '.mypy_cache' / folder.name}"
        # The benchmarks make their environments as dev.py does.
        ours = ["../tools", "../dev.py"] if folder.name == "benchmarks" else []
        yield f"types of {folder.name}", folder, ["mypy", settings, cache, ".", *ours]
    yield "architecture", ROOT, ["pytest", "-q", "tests/test_architecture.py"]


def check(options: argparse.Namespace, rest: list[str]) -> int:
    """Lint, then test; both run even if the first fails."""
    first = lint(options, rest)
    return test(options, rest) or first


def bench(options: argparse.Namespace, rest: list[str]) -> int:  # noqa: ARG001  # all verbs alike
    """Run the benchmarks in an environment of their own; options go to them."""
    program = ROOT / "benchmarks" / "run.py"
    if not program.exists():
        raise SetupFailed("benchmarks/run.py is missing", "Use a complete checkout.")
    files = ["build.txt", "runtime.txt"]
    if not any(part.startswith("--against") for part in rest):  # then there are no peers
        files.append("bench.txt")
    place = Environment(ROOT / ".bench-venv")
    with place.ready(files, "installed"):
        return place.run(program, *rest)


def docs(options: argparse.Namespace, rest: list[str]) -> int:  # noqa: ARG001  # all verbs alike
    """Build the documentation as a site in build/site, and check the pages: warnings are errors.

    The links are followed in the repository and in the site, and the reference pages have to say
    what the code says.
    """
    place = _environment()
    with place.ready([*LINT_FILES, "docs.txt"], "editable"):
        if options.serve:
            return place.run("-m", "tools.site", "--serve")
        say("docs: links")
        code = place.run("-m", "tests.architecture.pages")
        say("docs: reference pages")
        code = place.run("-m", "tools.reference", "--check") or code
        say("docs: site")
        return place.run("-m", "tools.site") or code


def _environment() -> Environment:
    """Return the environment of all verbs but ``bench``."""
    return Environment(Path(os.environ.get("NUVOM_VENV") or ROOT / ".venv").absolute())
