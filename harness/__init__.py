"""The harness: command line, run matrix, training loop, clock, speed measurement, probes, records, reports."""

__version__ = "0.1.0"

import os

# The profiler that counts CPU memory logs to stderr as it starts, works and stops; no reader of a table wants that.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
