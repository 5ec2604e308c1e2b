"""Finds the driver's connection in what an application calls a connection.

A job that is to be stored in a transaction of the application's goes over its connection, and
frameworks wrap the driver's in objects of their own.
"""

from __future__ import annotations

from typing import Any

_EXPECTED = (
    "connection has to be an open connection of {driver}, a Connection or Session of SQLAlchemy, "
    "or a connection of Django, to the database of the queue; this is {kind}"
)


def driver_connection(given: Any, driver: str) -> Any:  # noqa: ANN401  # of any framework
    """Return the connection of ``driver`` that ``given`` is, or that it wraps.

    Args:
        driver: The package of the driver, such as ``psycopg``.
    Raises: TypeError: it is of another kind.
    """
    found = given
    if callable(getattr(found, "get_bind", None)):  # a Session of SQLAlchemy
        found = found.connection()
    if callable(getattr(found, "ensure_connection", None)):  # Django
        found.ensure_connection()
        found = found.connection
    pooled = getattr(found, "connection", None)
    found = getattr(pooled, "driver_connection", found)  # a Connection of SQLAlchemy
    names = {cls.__module__.partition(".")[0] for cls in type(found).__mro__}
    if driver not in names or not callable(getattr(found, "commit", None)):
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
        raise TypeError(_EXPECTED.format(driver=driver, kind=kind))
    return found
