"""How this process was launched: alone, or by torchrun as one of several ranks.
Nothing here loads torch.
"""

from __future__ import annotations

import os

from harness.errors import UsageError

_RUN = "TORCHELASTIC_RUN_ID"
_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")
"""Where ranks meet."""


def world_size() -> int:
    """How many ranks there are; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if _by_torchrun() else 1


def rank() -> int:
    """Which of them this process is."""
    return int(os.environ["RANK"]) if _by_torchrun() else 0


def local_rank() -> int | None:
    """The same among the ranks of this host, and so the number of its GPU;
    None where there is one rank.
    """
    return int(os.environ["LOCAL_RANK"]) if world_size() > 1 else None


def check_environment() -> None:
    """A `UsageError` where torchrun's variables are there in part, or cannot be what it sets."""
    if found := _mistake():
        raise UsageError(
            "TORCHELASTIC_RUN_ID is set: expected the ranks' variables as torchrun sets them, found"
            f" {found}; start all ranks by torchrun, or unset it for one process"
        )


def _by_torchrun() -> bool:
    """Torchrun started this process; other launchers set variables of the same names,
    which mean nothing here.
    """
    return _RUN in os.environ and not _mistake()


def _mistake() -> str:
    """What torchrun would not have set; nothing where all is well."""
    values = {name: os.environ.get(name, "") for name in (*_NUMBERS, *_MEETING)}
    rank, local, size, here, port = (
        int(values[name]) if values[name].isdecimal() else -1 for name in (*_NUMBERS, "MASTER_PORT")
    )
    numbered = 0 <= local <= rank < size and local < here <= size
    meets = size == 1 or (values["MASTER_ADDR"] and port > 0)
    if _RUN not in os.environ or (numbered and meets):
        return ""
    return ", ".join(f"{name}={value}" for name, value in values.items())
