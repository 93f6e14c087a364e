"""Puts generated code, configuration and Envoy's files into the wheel; a working tree has them in place."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTENT = {
    "gen/quartet": "quartet",
    "gen/buf": "buf",
    "config": "services/config",
    "gen/quartet.pb": "services/config/quartet.pb",
    "k8s/base/envoy": "services/config/envoy",
}


class WheelContent(BuildHookInterface[Any]):
    """Called by hatchling for every build, an editable one included: that must not hold copies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the content to a wheel proper."""
        if version == "standard":
            build_data["force_include"].update(CONTENT)
