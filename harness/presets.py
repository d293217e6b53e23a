"""Named starting points for a run; every flag overrides them."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Minutes on two CPU cores, no data needed.
    "quick": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "tiny"},
        "data": {"name": "synthetic"},
        "train": {"budget": "60s", "batch_size": 64},
        "device": "cpu",
    },
    # MAMP's schedule as GFP and AMR use it (dossier 1.6, 2.5): for a GPU and NTU-sized data.
    "published": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "base"},
        "train": {"budget": "400ep", "batch_size": 128, "precision": "fp32"},
        "device": "auto",
    },
}
