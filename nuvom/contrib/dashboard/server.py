"""``nuvom dashboard``: serves the dashboard of one project with uvicorn, from a thread."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import TYPE_CHECKING

import click

from nuvom.cli import exit_codes
from nuvom.cli.processes import StopSignals
from nuvom.cli.project import reader, writer
from nuvom.contrib.dashboard.access import SIGN_IN, SignIn
from nuvom.contrib.dashboard.app import build, site_over
from nuvom.errors import CannotListen, MissingExtra, Refused

try:
    import h11
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as error:
    if error.name not in {"h11", "uvicorn"}:
        raise
    raise MissingExtra("nuvom dashboard", "dashboard") from error

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from nuvom.cli.context import Invocation
    from nuvom.contrib.dashboard.access import Answer
    from nuvom.runtime import Runtime

HOST, PORT = "127.0.0.1", 8321
_SHORTEST_TOKEN = 16  # characters
_HEADER_SECS = 10.0  # for a request's headers to arrive
_GRACE_SECS = 5  # for answers that are on the way when the server ends
_WAIT_SECS = 0.1


def serve(
    invocation: Invocation,
    *,
    host: str,
    port: int,
    token: str | None,
    allow_actions: bool,
    allow_host: tuple[str, ...],
    open_browser: bool,
) -> int:
    """Serve the dashboard until a signal comes; return the exit code.

    Raises: Refused: others could read it, and no token protects it; CannotListen: the address is in
        use; ProjectNotFound, ConfigError, PluginError.
    """
    signals = invocation.signals or StopSignals().install()
    check_start(host, token)
    runtime, _ = (writer if allow_actions else reader)(invocation)
    answer = "all" if allow_actions else "read_only"
    server = DashboardServer(runtime, host, port, answer=answer, token=token, hosts=allow_host)
    signals.connect(server.end, server.end_at_once, lambda: None)
    server.start()
    out = invocation.out
    data = {"url": server.url, "sign_in": server.sign_in_url, "actions": allow_actions}
    if out.as_json:
        out.json("nuvom.dashboard/1", data, one_line=True)
    else:
        what = "actions are allowed" if allow_actions else "read only; --allow-actions allows more"
        out.text(f"Dashboard of {runtime.settings.root}: {what}.")
        out.text(f"Open it: {server.sign_in_url}")
        out.say("This address works once. Press Ctrl-C to stop.")
    if open_browser:
        click.launch(server.sign_in_url)
    server.join()
    return signals.exit_code or exit_codes.OK


def start_beside(runtime: Runtime) -> DashboardServer:
    """Serve beside other work of this process, on another port if the usual one is taken.

    Whoever has the printed address may do everything: it is for this machine alone.
    """
    try:
        server = DashboardServer(runtime, answer="all")
    except CannotListen:
        server = DashboardServer(runtime, port=0, answer="all")
    server.start()
    return server


def check_start(host: str, token: str | None) -> None:
    """Refuse to serve others without protection.

    Raises: Refused: it would be open to other machines; click.UsageError: the token is too short.
    """
    if token is not None and len(token) < _SHORTEST_TOKEN:
        msg = f"A token has at least {_SHORTEST_TOKEN} characters, so that nobody can guess it."
        raise click.UsageError(msg)
    if token is None and not _is_loopback(host):
        repair = (
            "Give a token that only those know who may come in: --token, or NUVOM_DASHBOARD_TOKEN. "
            "Or leave --host out, and reach it through an SSH tunnel."
        )
        raise Refused(f"At {host} the dashboard would be open to other machines", repair)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class DashboardServer:
    """A dashboard at an address, from ``start`` to ``stop``.

    Args:
        runtime: Whose store is shown; its owner stops it, after the server.
        port: 0 for any that is free.
        answer: What a person who is signed in may do: ``read_only`` or ``all``.
        token: A token that works more than once, and for the API.
        hosts: Names under which the dashboard is reached, besides those of ``host``.
    Raises: CannotListen.
    """

    def __init__(
        self,
        runtime: Runtime,
        host: str = HOST,
        port: int = PORT,
        *,
        answer: Answer,
        token: str | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        self._socket = _listening(host, port)
        self._host = f"[{host}]" if ":" in host else host
        self.port: int = self._socket.getsockname()[1]
        self._sign_in = SignIn(answer, token, port=self.port)
        self._site = site_over(lambda: runtime, lambda: self._server.should_exit)
        names = frozenset({self._host, *hosts, *_names_of(host)})
        app = build(self._site, self._sign_in, hosts=names, sign_in=self._sign_in)
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="nuvom-dashboard-server")

    @property
    def url(self) -> str:
        """Where it is served."""
        is_any = self._host in {"0.0.0.0", "[::]"}  # noqa: S104  # a comparison
        return f"http://{socket.gethostname() if is_any else self._host}:{self.port}"

    @property
    def sign_in_url(self) -> str:
        """The address that lets one person in, once."""
        return f"{self.url}{SIGN_IN}?token={self._sign_in.once}"

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def end(self) -> None:
        """Ask it to end; takes no lock, so that signal handlers may call it."""
        self._server.should_exit = True

    def end_at_once(self) -> None:
        """Ask it to end without waiting for answers that are on the way."""
        self._server.should_exit = self._server.force_exit = True

    def join(self) -> None:
        """Wait until it has ended."""
        while self._thread.is_alive():
            self._thread.join(_WAIT_SECS)  # signal handlers run in between
        self._site.changes.close()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self.end()
        self.join()

    def _run(self) -> None:
        self._server.run([self._socket])


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises: CannotListen."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        made = socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise CannotListen(f"{host}:{port}", reason) from error
    # asyncio does this for sockets of its own alone. Without it, the end of a short answer waits
    # for the client to confirm its beginning: 40 ms.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _names_of(host: str) -> set[str]:
    """Return the further names of a server that listens at all addresses of this machine."""
    if host.strip("[]") not in {"0.0.0.0", "::"}:  # noqa: S104  # a comparison
        return set()
    return {"*", socket.gethostname(), socket.getfqdn()}


class _Connection(H11Protocol):
    """A connection on which what nobody waits for arrives in time, or it is closed."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Expect the end of the headers from their beginning on, however slowly they drip in.

        Likewise the end of a body that nobody reads any more, since the answer is complete.
        """
        is_answered = self.cycle is not None and self.cycle.response_complete
        is_waiting = self.conn.their_state is h11.IDLE or (
            is_answered and self.conn.their_state is h11.SEND_BODY
        )
        if is_waiting and self._timer is None:
            self._timer = self.loop.call_later(_HEADER_SECS, self.transport.close)
        elif not is_waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
