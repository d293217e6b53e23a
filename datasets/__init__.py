"""Skeleton data: layouts, packed clips, splits, device-resident batches, and the synthetic data set.

Nothing here imports `methods` or `harness`. `SUITE` marks this package as the benchmark suite's own, so that
the harness can tell it from a foreign package that is also called ``datasets``.
"""

SUITE = "masked-skeleton-benchmark"
