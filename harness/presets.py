"""Named starting points for a run; every flag overrides them."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Minutes on two CPU cores, no data needed: the published learning rate, decayed to almost nothing. Half a minute
    # each: 480 synthetic training clips are learnt from after some 6,000 seen, and more begins to hurt.
    "quick": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "tiny"},
        "data": {"name": "synthetic"},
        "train": {"budget": "30s", "batch_size": 64, "lr": 1e-3, "final_lr": 0.01},
        "probe": {"points": 2},
        "device": "cpu",
    },
    # MAMP's schedule (its released code, config/ and main_pretrain.py), which GFP (arXiv 2509.03609) follows: for a GPU
    # and NTU-sized data. The batch counts body sequences, about 0.85 of them a clip where empty bodies are left out;
    # MAMP's 128 are clips.
    "published": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "base"},
        "train": {"budget": "400ep", "batch_size": 128, "precision": "fp32"},
        "device": "auto",
    },
}
