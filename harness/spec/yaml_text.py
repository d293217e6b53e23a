"""YAML as people write it by hand: plain values, no aliases, no more than a page or two.

An alias stands for all that its anchor holds, so a few lines with aliases of aliases can stand for
more than any memory holds. No claim, target or setting needs one.
"""

from __future__ import annotations

from typing import Any

import yaml

_MOST_CHARACTERS = 100_000


def read_yaml(text: str) -> Any:
    """The value of a text; `yaml.YAMLError`, whose message says in its first line what is wrong."""
    if len(text) > _MOST_CHARACTERS:
        raise yaml.YAMLError(
            f"expected at most {_MOST_CHARACTERS:,} characters, found {len(text):,}"
        )
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise yaml.YAMLError("found brackets nested too deeply") from None
    except (ValueError, OverflowError) as error:  # a date that is none, a number of 5,000 digits
        raise yaml.YAMLError(str(error)) from None


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("found an alias; write out what it stands for")
        return super().compose_node(parent, index)
