"""What options of methods share: values of several numbers, impossible values, values that the encoder settles."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BeforeValidator

VERSION = 1

T = TypeVar("T")


class OptionError(ValueError):
    """An option's value cannot work with this encoder; the message names the allowed values."""


def known(value: T | None) -> T:
    """An option's value after `methods.base.resolve`, which leaves none open."""
    assert value is not None, "the option was not resolved"
    return value


def _split(value: object) -> object:
    return value.split("/") if isinstance(value, str) else value


SlashList = BeforeValidator(_split)
"""Lets a tuple option be written ``6/3/1`` in a spec string: ``Annotated[tuple[int, ...], SlashList]``."""
