"""Named starting points for a run; every flag overrides them."""

from __future__ import annotations

from typing import Any

PUBLISHED_CLIPS = 128
"""Clips of MAMP's batch: 32 on each of 4 GPUs."""

PRESETS: dict[str, dict[str, Any]] = {
    # Minutes on two CPU cores, no data needed: the published learning rate, decayed to almost
    # nothing. Half a minute each: 480 synthetic training clips are learnt from after some 6,000
    # seen, and more begins to hurt.
    "quick": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "tiny"},
        "data": {"name": "synthetic"},
        "train": {"budget": "30s", "batch_size": 64, "lr": 1e-3, "final_lr": 0.01},
        "probe": {"points": 2},
        "device": "cpu",
    },
    # MAMP's training (its released code, config/ and main_pretrain.py), which GFP (arXiv
    # 2509.03609) follows: for a GPU and NTU-sized data. Its 128 clips have 256 body slots, of which
    # 151 hold a body on average (NTU RGB+D 60: 41 % are empty): so many present bodies make a batch
    # here, always the same number. No training subject is held out.
    "published": {
        "methods": "gfp,skeletonmae",
        "encoder": {"size": "base"},
        "data": {"validation": 0.0},
        "train": {"budget": "400ep", "batch_size": 151, "precision": "fp32"},
        "device": "auto",
    },
}
