"""The readers that mutants are tried on: how a valid input is made in a folder,
and how it is read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml

from datasets.doctor.examination import examine, usual_splits
from datasets.formats.npz import read_npz
from datasets.formats.store import open_store
from datasets.origins.unpack import unpack
from datasets.raw import open_source
from datasets.raw.prepare import prepare, read_part
from datasets.splits import make_split
from harness.encoders.importing import import_encoder
from harness.records.store import write_weights
from harness.studies.claims import read_claims
from harness.studies.target import read_target
from methods.parts.encoder import EncoderSize, SkeletonEncoder
from tests.datasets.made_up import exchange_arrays
from tests.datasets.origins.test_unpack import FILES, archive_of
from tests.datasets.raw import made_up_raw
from tests.datasets.raw.made_up_ntu import Recorded, person, write_skeleton
from tests.datasets.raw.test_ntu_npz import arrays
from tests.datasets.raw.test_pyskl import annotation, pkl
from tests.harness.test_claims import VALUES

SIZE = EncoderSize(depth=1, width=8, heads=2, frames=8, patch=4)


def read_raw(name: str, raw: Path, scratch: Path) -> str:
    """As a worker of a preparation reads: whatever goes wrong with a file is a problem
    in words, which are returned.
    """
    source = open_source(name, raw)
    units = source.find().units
    scratch.mkdir(exist_ok=True)
    read_part(source, units, scratch / "part.npz", strict=False)
    with np.load(scratch / "part.npz") as part:
        return " ".join(json.loads(part["report"].tobytes())["problems"])


# --- raw formats ---


def make_ntu(folder: Path) -> None:
    write_skeleton(folder / "S001C002P003R002A013.skeleton", Recorded(7, 0, person(3)))
    (folder / "missing.txt").write_text("S001C002P003R002A014\n")


def read_ntu(folder: Path) -> str:
    return read_raw("ntu60", folder, folder.parent / "scratch")


def make_ntu_npz(folder: Path) -> None:
    np.savez_compressed(folder / "NTU60_CS.npz", **arrays(rows=2))


def read_ntu_npz(folder: Path) -> str:
    return read_raw("ntu60", folder / "NTU60_CS.npz", folder.parent / "scratch")


def make_pyskl(folder: Path) -> None:
    pkl(folder, annotation(), annotation("b"))


def read_pyskl(folder: Path) -> str:
    return read_raw("ntu60", folder / "ntu60_3danno.pkl", folder.parent / "scratch")


def make_pku(folder: Path) -> None:
    made_up_raw.write_frames(folder / "skeleton" / "0002-L.txt", np.ones((4, 2, 25, 3)))
    (folder / "label").mkdir()
    (folder / "label" / "0002-L.txt").write_text("7,0,3,2\n9,1,4,1\n")
    made_up_raw.write_split(folder / "cross-subject.txt", ["0002-L"], ["0003-L"])


def read_pku(folder: Path) -> str:
    return read_raw("pkummd1", folder, folder.parent / "scratch")


def make_nwucla(folder: Path) -> None:
    content = {
        "file_name": "a01_s01_e00_v01",
        "skeletons": np.ones((3, 20, 3)).tolist(),
        "label": 1,
    }
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps(content))


def read_nwucla(folder: Path) -> str:
    return read_raw("nwucla", folder, folder.parent / "scratch")


def make_uiprmd(folder: Path) -> None:
    for kind in ("positions", "angles"):
        made_up_raw.write_table(folder / f"m01_s01_e01_{kind}.txt", np.ones((3, 22, 3)))
        made_up_raw.write_table(folder / f"m02_s01_e01_{kind}.txt.gz", np.ones((3, 22, 3)))


def read_uiprmd(folder: Path) -> str:
    return read_raw("uiprmd", folder, folder.parent / "scratch")


def make_bvh(folder: Path) -> None:
    text = made_up_raw.bvh_text(made_up_raw.KINECT20, made_up_raw.arm_angle(3, 0, 1), 1)
    (folder / "a.bvh").write_text(text)
    (folder / "b.bvh").write_text(text)
    (folder / "labels.csv").write_text(
        "file,label,subject,unit_metres,room\na.bvh,wave,1,0.01,hall\nb.bvh,bow,2,,yard\n"
    )


def read_bvh(folder: Path) -> str:
    return read_raw("bvh", folder, folder.parent / "scratch")


# --- formats of this suite ---


def make_npz(folder: Path) -> None:
    np.savez_compressed(folder / "packed.npz", allow_pickle=False, **exchange_arrays())
    np.savez(folder / "plain.npz", allow_pickle=False, **exchange_arrays())


def read_exchange(folder: Path) -> None:
    for path in sorted(folder.glob("*.npz")):
        clips = read_npz(path, check_frames=False)
        examine(clips, usual_splits(clips))
        make_split(read_npz(path), validation=0)


def make_store(folder: Path) -> None:
    raw = folder.parent / "download"
    made_up_raw.write_nwucla(raw)
    prepare(open_source("nwucla", raw), "nwucla", folder / "store", workers=1)


def read_store(folder: Path) -> None:
    clips = open_store(folder / "store", afresh=True)
    examine(clips, usual_splits(clips))


# --- downloads, checkpoints, texts ---


def make_archives(folder: Path) -> None:
    for suffix in (".zip", ".tar", ".tar.gz", ".tar.xz"):
        archive_of(folder / f"raw{suffix}", FILES)


def read_archives(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            _unpacked(path)


def _unpacked(path: Path) -> None:
    import shutil

    target = path.parent.parent / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    unpack(path, target)


def make_checkpoint(folder: Path) -> None:
    state = dict(SkeletonEncoder(SIZE, 5).state_dict())
    patch = state.pop("patch_embed.weight").unflatten(1, (4, 3))
    state["joints_embed.proj.weight"] = patch.permute(0, 2, 1).unsqueeze(-1).contiguous()
    state["joints_embed.proj.bias"] = state.pop("patch_embed.bias")
    state["pos_embed"], state["temp_embed"] = (
        state.pop("positions.joint")[None],
        state.pop("positions.time")[None],
    )
    beside = {
        "args": argparse.Namespace(model_args={"num_heads": 2}),
        "best": np.float64(0.5),
        "curve": np.ones(3),
    }
    torch.save({"model": state, **beside}, folder / "new.pth")
    torch.save({"model": state, **beside}, folder / "old.pth", _use_new_zipfile_serialization=False)


def read_checkpoints(folder: Path) -> None:
    for path in sorted(folder.glob("*.pth")):
        import_encoder(path, {"size": "tiny", **vars(SIZE)}, 5)


def make_safetensors(folder: Path) -> None:
    from harness.encoders.facts import shared_facts, to_metadata

    encoder = SkeletonEncoder(SIZE, 5)
    write_weights(folder / "encoder.safetensors", encoder, to_metadata(shared_facts(encoder)))


def read_safetensors(folder: Path) -> None:
    import_encoder(folder / "encoder.safetensors")


def make_texts(folder: Path) -> None:
    (folder / "claim.yaml").write_text(yaml.safe_dump(VALUES))
    target = {
        "version": 2,
        "reference": "mamp",
        "accuracy": 0.5,
        "seeds": [0, 1],
        "budget": "9steps",
        "data": "synthetic",
        "fingerprint": "ab",
        "split": "xsub",
        "encoder": "tiny",
        "held_equal": "cd",
        "frozen": "2026-01-01",
    }
    (folder / "targets").mkdir()
    (folder / "targets" / "target.yaml").write_text(yaml.safe_dump(target))


def read_texts(folder: Path) -> None:
    read_claims(folder)
    read_target(folder / "targets" / "target.yaml")


def make_mat(folder: Path) -> None:
    import scipy.io

    for name, packed in (("a1_s1_t1", True), ("a2_s1_t1", False)):
        scipy.io.savemat(
            folder / f"{name}_skeleton.mat", {"d_skel": np.ones((20, 3, 4))}, do_compression=packed
        )


def read_mat(folder: Path) -> str:
    return read_raw("utdmhad", folder, folder.parent / "scratch")


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], str | None]]] = {
    "ntu .skeleton": (make_ntu, read_ntu),
    "ntu .npz": (make_ntu_npz, read_ntu_npz),
    "pyskl .pkl": (make_pyskl, read_pyskl),
    "pku-mmd": (make_pku, read_pku),
    "nw-ucla": (make_nwucla, read_nwucla),
    "ui-prmd": (make_uiprmd, read_uiprmd),
    "bvh": (make_bvh, read_bvh),
    "exchange .npz": (make_npz, read_exchange),
    "store": (make_store, read_store),
    "archives": (make_archives, read_archives),
    "checkpoints": (make_checkpoint, read_checkpoints),
    "safetensors": (make_safetensors, read_safetensors),
    "claims and targets": (make_texts, read_texts),
    "utd-mhad .mat": (make_mat, read_mat),
}
