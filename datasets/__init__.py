"""Skeleton data: layouts, packed clips, splits, device-resident batches, and the synthetic data
set.

Nothing here imports `methods` or `harness`.
"""
