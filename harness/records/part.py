"""What all parts of a record have in common: what is written can be read,
and impossible numbers are no record.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]


class RecordPart(BaseModel):
    """Base of all parts of a record.

    JSON knows no NaN and no infinity. They are written as the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``, and come back as the numbers that they were; pydantic's default, null, is no
    number to the reader. The setting is not inherited by the parts of a part: each must be a
    `RecordPart` itself.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
