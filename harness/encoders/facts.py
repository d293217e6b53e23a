"""What an encoder's weights do not tell: heads, layout, crop, centring; written beside them and
read again.

They stand in the metadata of every ``encoder.safetensors``, one JSON value a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.layouts import SkeletonLayout
from harness.spec.model import RunSpec
from methods.parts.encoder import Encoder, EncoderSize, SkeletonEncoder

_FORMAT = "masked-skeleton-encoder"


class EncoderFacts(BaseModel):
    """What is known of the weights in a file.

    Attributes:
        version: of this list.
        encoder: name of the class; ``SkeletonEncoder`` is the shared one, others are of the open
            division.
        size: depth, width, heads, frames and patch of a shared encoder.
        joints: V, of the token grid.
        layout: name of the skeleton; `joint_names` in order, empty when not known.
        crop: shares of a clip that training crops had, None when not known.
        center: clips were centred before use, None when not known.
        method: what trained it, with its options, or the file that it was imported from.
        data: fingerprint of the training data.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["masked-skeleton-encoder"] = "masked-skeleton-encoder"
    version: Literal[1] = 1
    encoder: str
    size: dict[str, int] | None = None
    joints: int
    layout: str = ""
    joint_names: tuple[str, ...] = ()
    crop: tuple[float, float] | None = None
    center: bool | None = None
    method: str = ""
    data: str = ""

    @property
    def encoder_size(self) -> EncoderSize:
        """The size of a shared encoder; `ValueError` for another class or a size that is none."""
        if self.encoder != SkeletonEncoder.__qualname__ or self.size is None:
            raise ValueError(f"an encoder of class {self.encoder}, not the shared one")
        if set(self.size) != set(EncoderSize.__dataclass_fields__) or min(self.size.values()) < 1:
            raise ValueError(f"a size of {self.size}")
        return EncoderSize(**self.size)


def facts_of(encoder: Encoder, layout: SkeletonLayout, spec: RunSpec) -> EncoderFacts:
    """The facts of an encoder that a run trained."""
    return shared_facts(encoder).model_copy(
        update={
            "layout": layout.name,
            "joint_names": layout.joints,
            "crop": spec.data.crop,
            "center": spec.data.center,
            "method": str(spec.method),
            "data": spec.data.fingerprint,
        }
    )


def shared_facts(encoder: Encoder) -> EncoderFacts:
    """What the encoder itself tells."""
    size = asdict(encoder.size) if isinstance(encoder, SkeletonEncoder) else None
    return EncoderFacts(encoder=type(encoder).__qualname__, size=size, joints=encoder.grid.joints)


def to_metadata(facts: EncoderFacts) -> dict[str, str]:
    """As safetensors keeps it: names to text."""
    return {name: json.dumps(value) for name, value in facts.model_dump(mode="json").items()}


def from_metadata(metadata: Mapping[str, str] | None) -> EncoderFacts | None:
    """The facts in a file's metadata; None where it has none of this format.
    `ValueError` when they are damaged.
    """
    values: dict[str, Any] = {}
    for name, text in (metadata or {}).items():
        try:
            values[name] = json.loads(text)
        except (ValueError, RecursionError):
            values[name] = text  # of another program
    if values.get("format") != _FORMAT:
        return None
    try:
        return EncoderFacts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
