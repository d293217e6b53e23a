"""Where a run happened: device, processor, software versions, commit.
Nothing that names a person or a host.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_limits
from torch.nn.attention import _cur_sdpa_kernel_backends  # nothing public tells their order

from harness import ROOT
from harness.errors import UsageError
from harness.records.schema import Environment

_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Environment variables that say how torch holds a GPU's memory: today's name and the one before.
"""
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn")


def use_threads(threads: int | None) -> None:
    """Compute with so many threads from now on; None leaves torch its own choice, a thread per
    core.

    A `UsageError` for more than there are processors: they would only wait for each other.
    """
    if threads is None:
        return
    if threads > processors():
        raise UsageError(
            f"--threads {threads}: expected 1 to {processors()}, the processors this process"
            " may use"
        )
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # those of numpy and scikit-learn


def describe_environment(device: torch.device, ranks: int = 1, study: str = "") -> Environment:
    """The environment of this process, one of so many ranks, which works for a study's file."""
    return Environment(
        device=_gpu_name(device) if device.type == "cuda" else "cpu",
        processor=_processor_name(),
        cores=processors(),
        threads=torch.get_num_threads(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        versions={"python": platform.python_version()}
        | {name: _version(name) for name in _PACKAGES},
        commit=_commit(),
        tf32=torch.backends.cuda.matmul.fp32_precision == "tf32",
        ranks=ranks,
        study=study,
        **(_gpu_settings() if device.type == "cuda" else {}),
    )


def _gpu_name(device: torch.device) -> str:
    """The driver's name of a GPU, which torch passes on.

    Torch is set up for GPUs first, and from then on even a random seed opens one; the driver is
    asked without: another process may be measuring there.
    """
    number, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:  # not NVIDIA's
        return torch.cuda.get_device_name(device)
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(number), device.index or 0)
        or driver.cuDeviceGetName(name, len(name), number)
    )
    return torch.cuda.get_device_name(device) if failed else name.value.decode()


def _gpu_settings() -> dict[str, Any]:
    """What torch is set to on a GPU: the kernels it may take for attention,
    and how it holds memory.
    """
    kernels = _cur_sdpa_kernel_backends(with_priority=True)
    return {
        "attention": tuple(kernel.name.lower() for kernel in kernels),
        "allocator": " ".join(
            f"{name}={os.environ[name]}" for name in _ALLOCATOR if os.environ.get(name)
        ),
    }


def select_device(name: str, own: int | None = None) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``; `UsageError` for a device that is not there.

    From then on fp32 means fp32: no TF32 in matrix products, whatever an environment variable asks
    for. No GPU is opened but a rank's own: that waits for data
    (`harness.training.data.LoadedData`).

    Args:
        own: number of the GPU of this one of several ranks, each of which takes another.
    """
    torch.set_float32_matmul_precision("highest")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    if not device_type(name) and own is None:
        return torch.device(here)
    device = torch.device(name if device_type(name) else here)
    if device.type == "cuda" and own is not None:
        if device.index is not None:
            raise UsageError(
                f"device {name!r}: expected cuda on several ranks, each of which takes a GPU of"
                " its own"
            )
        device = torch.device("cuda", own)
    if device.type == "cuda" and own is not None and own >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r}: expected a GPU for each rank, found {torch.cuda.device_count()};"
            " start fewer ranks, or use --device cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r}: torch sees {torch.cuda.device_count()} CUDA devices; use"
            " --device cpu"
        )
    if device.type == "cuda" and own is not None:
        torch.cuda.set_device(own)  # before the ranks meet, who talk by their GPUs
    return device


def device_type(name: str) -> str:
    """``cpu`` or ``cuda``, there or not; nothing for ``auto``; `UsageError` for anything else."""
    if name == "auto":
        return ""
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    return kind


def _processor_name() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Commit of this checkout, ``+dirty`` when tracked files differ,
    ``unknown`` outside a checkout.
    """
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
