"""How this process was launched: alone, or by torchrun as one of several ranks.
Nothing here loads torch.
"""

from __future__ import annotations

import os


def world_size() -> int:
    """How many ranks there are; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if _by_torchrun() else 1


def rank() -> int:
    """Which of them this process is."""
    return int(os.environ["RANK"]) if _by_torchrun() else 0


def local_rank() -> int | None:
    """The same among the ranks of this host, and so the number of its GPU;
    None where there is one rank.
    """
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else None


def _by_torchrun() -> bool:
    """Torchrun started this process; other launchers set variables of the same names,
    which mean nothing here.
    """
    return "TORCHELASTIC_RUN_ID" in os.environ
