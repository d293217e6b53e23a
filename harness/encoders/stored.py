"""The encoders that a run left, beside its record or in its folder's archive,
and untrained ones like them.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from harness.errors import UsageError
from harness.records.evaluations import WhichEncoder
from harness.records.schema import RunRecord
from harness.records.store import (
    ENCODER_FILE,
    LAST_FILE,
    RecordStore,
    host_copies,
    in_order,
    write_atomically,
)
from harness.training.build import build_encoder, build_method
from harness.training.data import LoadedData
from methods.base import Method
from methods.parts.encoder import Encoder

_ARCHIVE = "encoders.zip"
_T = TypeVar("_T")


def weights_file(record: RunRecord, which: WhichEncoder, store: RecordStore) -> tuple[Path, str]:
    """The file of a run's last or selected encoder, and its SHA-256;
    it may not be there (`not_there`).
    """
    path = _weights_path(record, which, store)
    known = record.weights.get(path.name, "")
    return path, known or hashlib.sha256(_weights_bytes(path) or b"").hexdigest()


def _weights_path(record: RunRecord, which: WhichEncoder, store: RecordStore) -> Path:
    """Where it lies, where it is beside the run's record."""
    name = ENCODER_FILE if which == "selected" or _last_is_selected(record) else LAST_FILE
    return store.folder(record.address) / name


def _weights_bytes(path: Path) -> bytes | None:
    """A weights file's content, from beside the record, else from the folder's archive; None where
    it is nowhere.

    What it must be, its SHA-256 says. A damaged archive is a `UsageError`.
    """
    if path.is_file():
        return path.read_bytes()
    return _of_archive(path, lambda found, name: found.read(name))


def _of_archive(path: Path, read: Callable[[zipfile.ZipFile, str], _T]) -> _T | None:
    """What is read of a weights file in the folder's archive; None where it is not in one."""
    archive, name = path.parents[1] / _ARCHIVE, f"{path.parent.name}/{path.name}"
    if not archive.is_file():
        return None
    try:
        with zipfile.ZipFile(archive) as found:
            return read(found, name) if name in found.namelist() else None
    except (
        zipfile.BadZipFile,
        OSError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        zlib.error,
    ) as error:
        raise UsageError(
            f"{archive}: not an archive that can be read ({error}); make it again"
        ) from None


def pack(folder: Path) -> Path:
    """All encoders of a folder in one archive, to be kept with its records;
    the same files give the same bytes.
    """
    archive = folder / _ARCHIVE
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as made:
        for path in sorted(
            path for name in (ENCODER_FILE, LAST_FILE) for path in folder.glob(f"*/{name}")
        ):
            made.writestr(zipfile.ZipInfo(f"{path.parent.name}/{path.name}"), path.read_bytes())
    write_atomically(archive, content.getvalue())
    return archive


def _last_is_selected(record: RunRecord) -> bool:
    """The evaluation at the end of training is the one that was selected: both encoders are one."""
    return bool(record.curve) and record.curve[-1].accuracy == record.accuracy


def not_there(record: RunRecord, which: WhichEncoder, store: RecordStore) -> str:
    """Why a run's encoder cannot be read; empty where it can."""
    path = _weights_path(record, which, store)
    if path.is_file() or _of_archive(path, lambda found, name: True):
        return ""
    if path.name == LAST_FILE and path.name not in record.weights:
        return (
            "an earlier evaluation was selected, and its last encoder was not kept, as earlier"
            " versions did not; --weights selected evaluates that one, run --rerun trains again"
        )
    return (
        f"{path.name} is not beside its record, nor in {_ARCHIVE}; put it there, or run again with"
        " --rerun"
    )


def encoder_of(
    record: RunRecord,
    which: WhichEncoder,
    data: LoadedData,
    method: type[Method] | None,
    store: RecordStore,
) -> Encoder:
    """A run's encoder on the data's device, in evaluation mode: a stored one, or as it was before
    training.

    Args:
        method: builds an encoder of the open division; else None.
    """
    spec, layout, device = record.spec, data.clips.layout, data.device
    encoder: Encoder
    if method:
        encoder = build_method(method, spec, layout, device).evaluated_encoder()
    else:
        encoder = build_encoder(spec, layout, device)
    if which != "untrained":
        path, expected = weights_file(record, which, store)
        content = _weights_bytes(path) or b""
        if hashlib.sha256(content).hexdigest() != expected:
            raise UsageError(
                f"{path}: not the file that its run wrote (SHA-256); put that one there"
            )
        try:
            encoder.load_state_dict(load(content))
        except (SafetensorError, RuntimeError) as error:
            raise UsageError(
                f"{path}: not the weights of its run's encoder ({str(error).splitlines()[0]})"
            ) from None
    return encoder.to(torch.device(device)).eval()


def weights_hash(encoder: nn.Module) -> str:
    """SHA-256 of what a weights file of an encoder would be, without metadata."""
    return hashlib.sha256(in_order(save(host_copies(encoder.state_dict())))).hexdigest()
