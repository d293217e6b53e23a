"""The harness: command line, run matrix, training loop, clock, speed measurement, probes, records, reports."""

__version__ = "0.1.0"

import os
import sys

# An installed suite gives the environment this one name, no `datasets` and no `methods`. They lie beside it and are
# found from here on, after all else on the path: no other package of these names gives way in silence.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

# The profiler that counts CPU memory logs to stderr as it starts, works and stops; no reader of a table wants that.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
