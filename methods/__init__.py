"""Masked pre-training methods: one file per method, on shared parts that no method copies.

Shared parts: `tokens` (patches, motion, normalisation), `masks`, `encoder`, `decoders`, `base` (the contract).
Nothing here imports `harness` or `datasets`. The harness finds every file of this folder that holds a `Method`.
"""
