"""The shop's project: its tasks as files, what they are called with, and how long they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nuvom.config.sources import load
from nuvom.discovery.manifest import write_manifest
from nuvom.discovery.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from nuvom.config.settings import Settings

_PROJECT = """[project]
name = "shop"

[tool.nuvom]
environment = "prod"
"""
_IMPORT = "from nuvom import task\n"
_FILES = {
    "mail": '''
@task(queue="mail", retries=5, timeout_secs=10)
def send_confirmation(order_id: int, to: str, locale: str = "en_GB") -> str:
    """Send the customer what was ordered, and return the provider's message id."""
    return deliver("confirmation", to, order_id=order_id, locale=locale)


@task(queue="mail", retries=5, timeout_secs=10)
def send_tracking(order_id: int, to: str, carrier: str, parcel: str) -> str:
    """Tell the customer that a parcel is on its way."""
    return deliver("tracking", to, order_id=order_id, carrier=carrier, parcel=parcel)


@task(queue="mail", retries=2, timeout_secs=10, redact=("link",))
def reset_password(user_id: int, to: str, link: str) -> str:
    """Send a link that is valid for an hour."""
    return deliver("reset", to, user_id=user_id, link=link)


@task(queue="mail")
def send_digest(day: str) -> int:
    """Send the team what was sold; returns how many got it."""
    return len([deliver("digest", one, day=day) for one in ("sales@shop.example",)])


@task(queue="mail")
def send_campaign(name: str, segment: str) -> int:
    """Send a campaign to a segment of the customers."""
    return len(name + segment)


def deliver(template: str, to: str, **values: object) -> str:
    return f"{template}-{to}-{len(values)}"
''',
    "billing": '''
@task(queue="billing", retries=3, retry_delay_secs=20, timeout_secs=30)
def capture_payment(
    order_id: int, amount_cents: int, card_token: str, currency: str = "EUR"
) -> str:
    """Capture an authorised payment, and return the reference of the bank."""
    return f"{order_id}-{amount_cents}-{currency}-{len(card_token)}"


@task(queue="billing", retries=3)
def refund_order(order_id: int, reason: str) -> str:
    """Give the money back, and return the reference of the bank."""
    return f"{order_id}-{reason}"


@task(queue="billing", retries=2)
def make_invoice(order_id: int, locale: str = "en_GB") -> str:
    """Write the invoice as a PDF, and return its key in the archive."""
    return f"invoices/{locale}/{order_id}.pdf"


@task(queue="billing", retries=3)
def load_rates(source: str = "ecb") -> int:
    """Load the exchange rates of the day."""
    return len(source)


@task(queue="billing")
def pay_suppliers(currency: str = "EUR") -> int:
    """Pay what is due to suppliers, and return how many payments that were."""
    return len(currency)
''',
    "images": '''
@task(queue="images", retries=1, timeout_secs=60)
def make_thumbnails(key: str, widths: list[int]) -> list[str]:
    """Make smaller versions of a product's picture, and return their keys."""
    return [f"{key}@{width}" for width in widths]


@task(queue="images", timeout_secs=120)
def remove_background(key: str, margin: int = 12) -> str:
    """Cut the product out of its picture."""
    return f"{key}#{margin}"


@task(queue="images")
def read_metadata(key: str) -> dict[str, int]:
    """Read size and orientation of an upload."""
    return {"bytes": len(key)}
''',
    "reports": '''
@task(queue="reports", retries=3, retry_delay_secs=45, timeout_secs=900)
def close_day(
    day: str, currency: str, format: str, skip_refunds: bool, upload_token: str
) -> int:
    """Add up a day's orders and upload the sheet for the accountant.

    Returns the number of orders. It reports progress for each thousand of them.
    """
    return len(day + currency + format + upload_token) + skip_refunds


@task(queue="reports", retries=1)
def stock_levels(warehouse: str) -> dict[str, int]:
    """Count what each warehouse has left."""
    return {warehouse: 0}


@task(queue="reports")
def export_orders(since: str, until: str, columns: list[str]) -> str:
    """Write orders as CSV, and return the address of the file."""
    return f"{since}-{until}-{len(columns)}"
''',
    "search": '''
@task(queue="search", retries=2)
def index_product(product_id: int, languages: list[str]) -> int:
    """Bring a product up to date in the index of each language."""
    return product_id * len(languages)


@task(queue="search")
def rebuild_index(language: str) -> int:
    """Build the index of a language anew, and swap it in."""
    return len(language)


@task(queue="search")
def write_sitemap(site: str) -> int:
    """Write the sitemap, and return how many addresses are in it."""
    return len(site)
''',
    "cart": '''
@task(retries=1)
def remind(cart_id: str, to: str) -> bool:
    """Remind a customer of a cart that was left; False if it has been ordered since."""
    return bool(cart_id + to)


@task
def release_stock(cart_id: str) -> int:
    """Give back what a cart had reserved."""
    return len(cart_id)


@task
def purge(older_than_days: int = 30) -> int:
    """Remove carts that nobody has touched for so long."""
    return older_than_days
''',
    "partners": '''
@task(retries=4, retry_delay_secs=30)
def pull_inventory(partner: str, page: int = 1) -> int:
    """Fetch a page of what a partner has in stock."""
    return len(partner) * page


@task(retries=4, retry_delay_secs=30)
def push_order(order_id: int, partner: str) -> str:
    """Pass an order on to the partner who ships it."""
    return f"{partner}-{order_id}"
''',
}
GONE = "images.encode_avif"
"""A task that producers call and the project no longer has."""


def make_project(folder: Path) -> Settings:
    """Write the project and its manifest; return its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
    for name, text in _FILES.items():
        (folder / f"{name}.py").write_text(f"{_IMPORT}\n{text}", encoding="utf-8")
    settings = load(folder).settings
    write_manifest(settings.manifest_file, scan(folder).tasks, root=folder)
    return settings


class Habit(NamedTuple):
    """How a task is used.

    Attributes:
        weight: Its share of all jobs.
        secs: How long it usually takes, the median.
        spread: How much that varies; the deviation of its logarithm.
        call: Makes keyword arguments.
        result: Makes a result of them.
    """

    queue: str
    weight: float
    secs: float
    spread: float
    call: Callable[[Random], dict[str, Any]]
    result: Callable[[dict[str, Any]], Any]
    retries: int = 0


_NAMES = ("ana.novak", "b.okafor", "c.lindqvist", "dmitri", "e.moreau", "farah.k", "g.rossi")
_HOSTS = ("mail.example", "post.example", "inbox.example")
_LOCALES = ("en_GB", "de_DE", "fr_FR", "nl_NL", "sv_SE")
PARTNERS = ("northwind", "kestrel", "oakline")


def _order(rng: Random) -> int:
    return 61_000 + rng.randrange(4_000)


def _address(rng: Random) -> str:
    return f"{rng.choice(_NAMES)}@{rng.choice(_HOSTS)}"


def _key(rng: Random) -> str:
    ending = rng.choice(("jpg", "jpg", "png", "webp"))
    return f"uploads/{rng.randrange(20_000, 99_999)}.{ending}"


def _hex(rng: Random, digits: int = 8) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _mail(rng: Random) -> dict[str, Any]:
    return {"order_id": _order(rng), "to": _address(rng), "locale": rng.choice(_LOCALES)}


def _tracking(rng: Random) -> dict[str, Any]:
    carrier = rng.choice(("dhl", "gls", "postnord"))
    parcel = f"JJD{rng.randrange(10**9):09d}"
    return {"order_id": _order(rng), "to": _address(rng), "carrier": carrier, "parcel": parcel}


def _payment(rng: Random) -> dict[str, Any]:
    return {
        "order_id": _order(rng),
        "amount_cents": rng.randrange(900, 40_000) // 50 * 50 - 5,
        "card_token": f"tok_{_hex(rng)}",
        "currency": "EUR",
    }


def _reset(rng: Random) -> dict[str, Any]:
    link = f"https://shop.example/r/{_hex(rng)}"
    return {"user_id": rng.randrange(9_000), "to": _address(rng), "link": link}


HABITS: dict[str, Habit] = {
    "mail.send_confirmation": Habit(
        *("mail", 9, 0.35, 0.5, _mail), lambda _: "msg_01hx2k9q", retries=5
    ),
    "mail.send_tracking": Habit(
        *("mail", 7, 0.32, 0.5, _tracking), lambda _: "msg_01hx2m4t", retries=5
    ),
    "mail.reset_password": Habit(*("mail", 1.5, 0.3, 0.4, _reset), lambda _: "msg_01hx2p7c"),
    "billing.capture_payment": Habit(
        *("billing", 8, 0.9, 0.45, _payment), lambda call: f"K{call['order_id']}-7", retries=3
    ),
    "billing.make_invoice": Habit(
        *("billing", 7, 0.6, 0.3),
        lambda rng: {"order_id": _order(rng), "locale": rng.choice(_LOCALES)},
        lambda call: f"invoices/{call['locale']}/{call['order_id']}.pdf",
        retries=2,
    ),
    "billing.refund_order": Habit(
        *("billing", 0.5, 0.8, 0.4),
        lambda rng: {
            "order_id": _order(rng),
            "reason": rng.choice(("damaged", "returned", "lost")),
        },
        lambda call: f"R{call['order_id']}-1",
        retries=3,
    ),
    "images.make_thumbnails": Habit(
        *("images", 13, 1.6, 0.55),
        lambda rng: {"key": _key(rng), "widths": [240, 480, 960]},
        lambda call: [f"{call['key']}@{width}" for width in call["widths"]],
        retries=1,
    ),
    "images.read_metadata": Habit(
        *("images", 10, 0.06, 0.6),
        lambda rng: {"key": _key(rng)},
        lambda _: {"width": 3024, "height": 4032, "orientation": 6},
    ),
    "images.remove_background": Habit(
        *("images", 2, 6.5, 0.35),
        lambda rng: {"key": _key(rng), "margin": 12},
        lambda call: f"cut/{call['key']}",
    ),
    "search.index_product": Habit(
        *("search", 24, 0.18, 0.6),
        lambda rng: {"product_id": rng.randrange(80_000, 99_999), "languages": ["en", "de", "fr"]},
        lambda _: 3,
        retries=2,
    ),
    "cart.release_stock": Habit(
        *("default", 5, 0.04, 0.5), lambda rng: {"cart_id": f"c_{_hex(rng)}"}, lambda _: 2
    ),
    "cart.remind": Habit(
        *("default", 2, 0.2, 0.5),
        lambda rng: {"cart_id": f"c_{_hex(rng)}", "to": _address(rng)},
        lambda _: True,
        retries=1,
    ),
    "partners.push_order": Habit(
        *("default", 4, 0.5, 0.6),
        lambda rng: {"order_id": _order(rng), "partner": rng.choice(PARTNERS)},
        lambda call: f"{call['partner']}-{call['order_id']}",
        retries=4,
    ),
    "partners.pull_inventory": Habit(
        *("default", 3, 1.1, 0.5),
        lambda rng: {"partner": rng.choice(PARTNERS), "page": rng.randrange(1, 40)},
        lambda _: 200,
        retries=4,
    ),
    "reports.export_orders": Habit(
        *("reports", 0.15, 40, 0.5),
        lambda rng: {
            "since": f"2026-{rng.randrange(1, 9):02d}-01",
            "until": "2026-10-01",
            "columns": ["id", "total", "vat"],
        },
        lambda _: "exports/orders.csv",
    ),
}
