"""What options of methods share: limits, values of several numbers, impossible values,
values the encoder settles.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field

VERSION = 1

T = TypeVar("T")

Depth = Annotated[int, Field(ge=1, le=256)]
"""Blocks or layers. The upper limits here are far above what any paper has:
they catch a slip before any work.
"""
Width = Annotated[int, Field(ge=1, le=16_384)]
LossWeight = Annotated[float, Field(ge=0, le=1e6)]
Sharpness = Annotated[float, Field(ge=-1000, le=1000)]
"""MAMP's tau: the smaller, the rather moving tokens are masked; 0 and below:
without regard to motion.
"""


class OptionError(ValueError):
    """An option's value cannot work with this encoder; the message names the allowed values."""


def known(value: T | None) -> T:
    """An option's value after `methods.base.resolve`, which leaves none open."""
    assert value is not None, "the option was not resolved"
    return value


SlashList = BeforeValidator(lambda value: value.split("/") if isinstance(value, str) else value)
"""Lets a tuple option be written ``6/3/1`` in a spec string:
``Annotated[tuple[int, ...], SlashList]``.
"""
