"""What goes wrong in the shop: errors with tracebacks, how often, and when."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.core.record import StoredError
from nuvom.core.transitions import died_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_THEIRS = "/srv/shop/.venv/lib/python3.13/site-packages"
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


class Frame(NamedTuple):
    """One frame of a traceback: a file of the project or of a library, and a line of it."""

    file: str
    line: int
    function: str
    code: str

    @property
    def is_own(self) -> bool:
        """Whether it is of the project."""
        return "/" not in self.file


class Fault(NamedTuple):
    """A group of failures.

    Attributes:
        message: With the names of arguments in braces.
        frames: Outermost first.
        jobs: How many jobs of the last seven days end with it.
        ago: Draws how many seconds ago one of them ended.
        attempts: How many each had.
        outcome: How their last attempt ended.
    """

    task: str
    type: str
    message: str
    frames: tuple[Frame, ...]
    jobs: int
    ago: Callable[[Random], float]
    attempts: int = 1
    outcome: str = "failure"

    def error(self, root: Path, call: dict[str, Any]) -> StoredError:
        """Return the error of one call."""
        if self.outcome == "lost":
            return died_error(self.task, self.attempts)
        message = self.message.format(**call)
        lines = ["Traceback (most recent call last):"]
        for one in self.frames:
            file = root / one.file if one.is_own else f"{_THEIRS}/{one.file}"
            lines += [f'  File "{file}", line {one.line}, in {one.function}', f"    {one.code}"]
        own = [one for one in self.frames if one.is_own][-1:]
        seed = "\n".join((self.task, self.type, *(f"{one.file}:{one.function}" for one in own)))
        fingerprint = blake2b(seed.encode(), digest_size=6).hexdigest()
        text = "\n".join([*lines, f"{self.type}: {message}"])
        return StoredError(self.type, message, text if self.frames else None, fingerprint)


def _burst(rng: Random) -> float:
    """A bad deploy: half an hour ago, for ten minutes."""
    return _MINUTE * min(30.0, max(17.5, rng.gauss(24, 2.4)))


def _any_time(days: float) -> Callable[[Random], float]:
    return lambda rng: _HOUR / 3 + rng.random() * (days * _DAY - _HOUR)


def _about(hours: float, spread: float) -> Callable[[Random], float]:
    return lambda rng: _HOUR * max(0.2, rng.gauss(hours, spread))


FAULTS = (
    Fault(
        "images.make_thumbnails",
        "UnidentifiedImageError",
        "cannot identify image file 's3://shop/{key}'",
        (
            Frame("images.py", 8, "make_thumbnails", "source = open_upload(key)"),
            Frame("images.py", 31, "open_upload", "return Image.open(path)"),
            Frame("PIL/Image.py", 3580, "open", "raise UnidentifiedImageError(msg)"),
        ),
        *(168, _burst, 2),
    ),
    Fault(
        "billing.capture_payment",
        "CardDeclined",
        "insufficient_funds (order {order_id})",
        (
            Frame("billing.py", 10, "capture_payment", "answer = bank.capture(card_token)"),
            Frame("bank.py", 54, "capture", "raise CardDeclined(answer.reason, order_id)"),
        ),
        *(41, _any_time(3)),
    ),
    Fault(
        "partners.pull_inventory",
        "HTTPStatusError",
        "Server error '503 Service Unavailable' for url 'https://api.{partner}.example/stock'",
        (
            Frame("partners.py", 9, "pull_inventory", "rows = fetch(partner, page)"),
            Frame("partners.py", 27, "fetch", "answer.raise_for_status()"),
            Frame("httpx/_models.py", 829, "raise_for_status", "raise HTTPStatusError(message)"),
        ),
        *(19, _about(9.5, 0.35), 5),
    ),
    Fault(
        "mail.send_confirmation",
        "TimeoutError",
        "it ran for longer than 10 s",
        (
            Frame("mail.py", 7, "send_confirmation", 'return deliver("confirmation", to)'),
            Frame("mail.py", 39, "deliver", "connection = smtp.connect(RELAY)"),
            Frame("aiosmtplib/smtp.py", 341, "connect", "(code, msg) = self.getreply()"),
        ),
        *(14, _any_time(3), 6, "timeout"),
    ),
    Fault(
        "billing.make_invoice",
        "FontNotFound",
        "no font has the characters of locale {locale}",
        (
            Frame("billing.py", 26, "make_invoice", "page = render(order, locale)"),
            Frame("pdf.py", 63, "load_fonts", "raise FontNotFound(locale)"),
        ),
        *(7, _about(6.4, 0.5), 3),
    ),
    Fault(
        "billing.capture_payment",
        "WorkerDied",
        "",
        (),
        *(3, lambda rng: _MINUTE * (11.0 + 4.6 * rng.random()), 3, "lost"),
    ),
    Fault(
        "cart.remind",
        "UndefinedError",
        "'dict object' has no attribute 'discount'",
        (
            Frame("cart.py", 7, "remind", "text = template.render(cart=cart)"),
            Frame("mail.py", 52, "render", "return page.render(values)"),
            Frame("jinja2/environment.py", 1295, "render", "self.environment.handle_exception()"),
        ),
        *(4, _about(20.5, 1.2), 2),
    ),
    Fault(
        "search.index_product",
        "ConnectionError",
        "[Errno 111] Connection refused",
        (
            Frame("search.py", 6, "index_product", "client().put(product_id, texts)"),
            Frame("search.py", 24, "client", "return Client(ADDRESS, timeout=2)"),
        ),
        *(6, _about(40, 16), 3),
    ),
    Fault(
        "reports.stock_levels",
        "OperationalError",
        "canceling statement due to statement timeout",
        (
            Frame("reports.py", 16, "stock_levels", "rows = session.execute(COUNT)"),
            Frame("psycopg/cursor.py", 97, "execute", "raise ex.with_traceback(None)"),
        ),
        *(1, _about(9.2, 0.1), 2),
    ),
    Fault(
        "billing.refund_order",
        "AlreadyRefunded",
        "order {order_id} was refunded before",
        (
            Frame("billing.py", 17, "refund_order", "bank.refund(order_id, reason)"),
            Frame("bank.py", 81, "refund", "raise AlreadyRefunded(order_id)"),
        ),
        *(2, _about(31, 8)),
    ),
)

CLOSING = Fault(
    "reports.close_day",
    "KeyError",
    "'vat_rate'",
    (
        Frame("reports.py", 13, "close_day", "total += order_total(row)"),
        Frame("reports.py", 41, "order_total", 'return row["net"] * (1 + row["vat_rate"])'),
    ),
    *(0, lambda _: 0.0, 4),
)
"""Why the last reports of a day failed; their jobs are those of a schedule."""
