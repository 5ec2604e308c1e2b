"""Traces and metrics for OpenTelemetry. Needs ``pip install 'nuvom[otel]'``.

``OTelPlugin`` is for workers, ``instrument`` for programs that only send jobs. The program sets up
the providers: nothing here sets a global one.
"""

from nuvom.errors import MissingExtra

try:
    from nuvom.contrib.otel.plugin import OTelPlugin, instrument
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise MissingExtra("nuvom.contrib.otel", "otel") from error

__all__ = ["OTelPlugin", "instrument"]
