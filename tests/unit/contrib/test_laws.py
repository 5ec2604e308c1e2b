"""The plugins that come with Nuvom keep the laws that everybody's have to keep."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("library", "name"), [("prometheus_client", "prometheus"), ("opentelemetry", "otel")]
)
def test_without_its_library_the_extra_is_named(library: str, name: str) -> None:
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from nuvom.errors import MissingExtra\n"
        f"try:\n    import nuvom.contrib.{name}\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"nuvom[{name}]" in done.stdout
