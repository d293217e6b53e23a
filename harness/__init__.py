"""The harness: command line, run matrix, training loop, clock, speed measurement, probes, records, reports."""

__version__ = "0.1.0"

import os
import sys
from pathlib import Path

# An installed suite gives the environment this one name, no `datasets` and no `methods`. They lie beside it and are
# found from here on, after all else on the path: no other package of these names gives way in silence.
ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

# The profiler that counts CPU memory logs to stderr as it starts, works and stops; no reader of a table wants that.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
