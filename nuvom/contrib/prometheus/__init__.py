"""Prometheus metrics, as a worker plugin. Needs ``pip install 'nuvom[prometheus]'``."""

from nuvom.errors import MissingExtra

try:
    from nuvom.contrib.prometheus.plugin import PrometheusPlugin
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "prometheus_client":
        raise
    raise MissingExtra("nuvom.contrib.prometheus", "prometheus") from error

__all__ = ["PrometheusPlugin"]
