"""Where the parts that all methods share differ from the released code that they follow; `harness
ls methods --json`.

What a single method or data set does otherwise stands there: `methods.base.About`,
`datasets.raw.DEVIATIONS`.
"""

from __future__ import annotations

DEVIATIONS = (
    (
        "one crop and one rotation per body sequence, the bodies of a clip apart; MAMP's feeder"
        " draws once per clip, and so do data.loader=workers and published"
    ),
    (
        "absent bodies are not batched; the released codes compute them as zeros, as"
        " data.include_empty_bodies=true does"
    ),
    (
        "a clip's feature is the mean over its present bodies; MAMP's probe averages both places,"
        " the empty one included"
    ),
    (
        "matrix products in fp32 are not rounded to TF32, which is switched off and recorded; torch"
        " before 1.12, MAMP's 1.8.1 among them, rounded them on GPUs that have it"
    ),
)
"""One sentence each: what is done here, and what the released code does."""
