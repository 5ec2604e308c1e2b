"""Tasks that children of a process lane import and run, well-behaved and otherwise."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time

from nuvom import Discard, LeaseLost, Retry, Snooze, current_job, task
from nuvom.execution.attempts import CurrentJob


def note(path: str, text: str) -> None:
    """Append a line, in one write, so that processes do not mix theirs."""
    with open(path, "ab", buffering=0) as stream:
        stream.write(f"{text}\n".encode())


@task(isolation="process")
def add(x: int, y: int) -> int:
    return x + y


@task(isolation="process")
async def add_later(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y


@task(isolation="process")
def whoami() -> list[int]:
    return [os.getpid(), os.getppid()]


@task(isolation="process")
def sleep_and_tell(path: str, secs: float) -> int:
    note(path, str(os.getpid()))
    time.sleep(secs)
    return os.getpid()


# ---- what does not end by itself ------------------------------------------------------


@task(isolation="process", timeout_secs=0.5)
def spin(path: str = os.devnull) -> None:
    note(path, str(os.getpid()))
    while True:
        pass


@task(isolation="process", timeout_secs=0.5)
def block() -> None:
    time.sleep(60)


@task(isolation="process", timeout_secs=0.5)
def be_deaf(path: str = os.devnull) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(path, str(os.getpid()))
    while True:
        time.sleep(0.01)


@task(isolation="process", timeout_secs=0.5)
def catch_all() -> None:
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001  # the very thing that is tested
            continue


@task(isolation="process", timeout_secs=0.5)
def hold_the_gil(path: str = os.devnull) -> None:
    note(path, str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)
    ctypes.PyDLL(None).sleep(60)


@task(isolation="process", timeout_secs=0.5)
async def wait_for_nothing() -> None:
    await asyncio.Event().wait()


@task(isolation="process", timeout_secs=0.5)
def tidy_up(path: str) -> None:
    try:
        time.sleep(60)
    finally:
        note(path, f"cancelled {current_job().cancelled}")


@task(isolation="process")
def start_another(path: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note(path, str(program.pid))
    program.wait()


# ---- what ends the process ------------------------------------------------------------


@task(isolation="process")
def crash() -> None:
    ctypes.string_at(0)


@task(isolation="process")
def leave(code: int) -> None:
    os._exit(code)


@task(isolation="process")
def close_all_files() -> None:
    os.closerange(3, 1000)
    time.sleep(60)


@task(isolation="process", retries=2, retry_delay_secs=0)
def leave_twice(path: str) -> int:
    note(path, "called")
    if current_job().attempt < 3:
        os._exit(3)
    return current_job().attempt


@task(isolation="process")
def swallow_memory() -> None:
    taken = []
    while True:
        taken.append(b"x" * (1 << 20))
        time.sleep(0.001)


# ---- what tasks raise and return ------------------------------------------------------


@task(isolation="process", retries=3, discard_on=(ValueError,))
def raise_wrong_value() -> None:
    raise ValueError("wrong")


@task(isolation="process", retries=1)
def steer(how: str) -> str:
    if how == "discard":
        raise Discard("no longer wanted")
    if current_job().attempt == 1 and how == "retry":
        raise Retry(0)
    if how == "snooze" and not current_job().metadata.get("seen") and not _was_here():
        raise Snooze(0)
    return f"{how} {current_job().attempt}"


def _was_here() -> bool:
    try:
        os.mkdir("was-here")
    except FileExistsError:
        return True
    return False


@task(isolation="process")
def raise_exit() -> None:
    sys.exit(5)


@task(isolation="process")
def return_bytes(count: int) -> bytes:
    return b"x" * count


@task(isolation="process")
def return_lock() -> object:
    return threading.Lock()


# ---- what running code may ask --------------------------------------------------------


@task(isolation="process")
def report(path: str) -> str:
    current_job().progress(3, 10, "three")
    note(path, "reported")
    while not os.path.exists(f"{path}.go"):
        time.sleep(0.01)
    current_job().progress(4)
    return "done"


_JOBS: list[CurrentJob] = []


@task(isolation="process")
def report_for_the_first_job() -> bool:
    _JOBS.append(current_job())
    try:
        _JOBS[0].progress(1)
    except LeaseLost:
        return False
    return True


@task(isolation="process")
def enqueue_two(*, fail: bool) -> str:
    child = current_job().enqueue(add, 1, 2)
    current_job().enqueue(add.options(tags=["child"]), 3, y=4)
    if fail:
        raise RuntimeError("after all not")
    return child


@task(isolation="process")
def delay_another() -> str:
    return add.delay(20, 22).id


@task(isolation="process")
def speak() -> str:
    print("printed by the task")
    sys.stdout.flush()
    os.write(1, b"written by the task\n")
    logging.getLogger("user").warning("logged by the task")
    return sys.stdin.read()


@task(isolation="process")
def fork_and_wait() -> int:
    pid = os.fork()
    if pid == 0:
        try:
            current_job().progress(1)
        except OSError:
            os._exit(7)
        os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ---- hooks ----------------------------------------------------------------------------


def _before() -> None:
    note("hooks", f"before {current_job().attempt} {os.getpid()}")


def _after(result: object) -> None:
    note("hooks", f"after {result!r} {os.getpid()}")


def _on_error(error: BaseException) -> None:
    note("hooks", f"error {error!r} {os.getpid()}")


@task(
    isolation="process",
    before_job=_before,
    after_job=_after,
    on_error=_on_error,
    store_result=False,
    timeout_secs=5,
)
def hooked(how: str) -> object:
    if how == "raise":
        raise LookupError("nothing there")
    if how == "leave":
        os._exit(3)
    if how == "hang":
        while True:
            time.sleep(0.01)
    return how
