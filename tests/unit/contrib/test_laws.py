"""The plugins that come with Nuvom keep the laws that everybody's have to keep."""

from __future__ import annotations

from typing import Any

from nuvom.contrib.otel import OTelPlugin
from nuvom.contrib.prometheus import PrometheusPlugin
from nuvom.testing.conformance import PluginConformance


class TestPrometheus(PluginConformance):
    def settings(self) -> dict[str, Any]:
        return {"prometheus_port": 0}

    def make(self) -> PrometheusPlugin:
        return PrometheusPlugin()


class TestOTel(PluginConformance):
    def make(self) -> OTelPlugin:
        return OTelPlugin()
