"""Editable installs only: a wheel would bring top-level packages called ``datasets`` and
``methods`` into every environment that has it, where other packages have these names.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableOnly(BuildHookInterface):
    """Ends any other build with one line; an exit, as an exception would end in a traceback."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a build; ``version`` is ``editable`` or ``standard``."""
        if version != "editable":
            raise SystemExit(
                f"error: masked-skeleton-benchmark has no {self.target_name}, it runs from its"
                " checkout; clone the repository and run `pip install -e .` in it"
            )
