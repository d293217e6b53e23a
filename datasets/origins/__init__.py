"""How to get the raw data: what may be downloaded,
and for the rest the exact steps and the address to ask at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from datasets.errors import DataError
from datasets.wording import listed, nearest


@dataclass(frozen=True)
class RemoteFile:
    """An archive that may be downloaded.

    Attributes:
        name: the file's name on our side.
        url: where it is.
        sha256: its checksum, 64 hexadecimal digits; None where none is published.
        keep: which members to unpack, a pattern as `datasets.origins.unpack.unpack` takes it.
        inside: the folder in the archive that is the raw folder for ``harness data prepare``.
    """

    name: str
    url: str
    sha256: str | None = None
    keep: str = "*"
    inside: str = "."


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Attributes:
        title: name and publication.
        licence: in words.
        address: the official one, where to ask.
        steps: what to do by hand, in order, up to a folder for
            ``harness data prepare NAME --raw FOLDER``.
        download: what `datasets.origins.download.fetch` gets, where the licence lets a program do
            it.
    """

    title: str
    licence: str
    address: str
    steps: tuple[str, ...]
    download: RemoteFile | None = None


_NTU_LICENCE = "academic research only, after an accepted request; not to be passed on"
_NTU_ADDRESS = "https://rose1.ntu.edu.sg/dataset/actionRecognition"
_NTU_ASK = (
    "open the address, make an account, and send the request form under its release agreement"
)
_NTU_LISTS = "https://github.com/shahroudy/NTURGB-D/tree/master/Matlab"
_PKU_ADDRESS = "https://github.com/ECHO960/PKU-MMD"
_PKU_LICENCE = (
    "none stated; given out for research, so treat it as research only and do not pass it on"
)
_PKU_ASK = (
    "open the address, then the project page it names (today https://struct002.github.io/PKUMMD),"
    " and ask there"
)
_UIPRMD_COMMIT = "2c5bf130697b4dd7c6aafc1e75f5cb4b60f651c3"

ORIGINS: Mapping[str, Origin] = {
    "ntu60": Origin(
        title="NTU RGB+D 60 (Shahroudy et al., CVPR 2016)",
        licence=_NTU_LICENCE,
        address=_NTU_ADDRESS,
        steps=(
            _NTU_ASK,
            (
                "when it is accepted, take the skeletons alone: nturgbd_skeletons_s001_to_s017.zip"
                " (56,880 clips)"
            ),
            "unpack it into a folder of its own",
            f"put NTU_RGBD_samples_with_missing_skeletons.txt from {_NTU_LISTS} into that folder",
        ),
    ),
    "ntu120": Origin(
        title="NTU RGB+D 120 (Liu et al., TPAMI 2019)",
        licence=_NTU_LICENCE,
        address=_NTU_ADDRESS,
        steps=(
            _NTU_ASK,
            (
                "when it is accepted, take the skeletons alone: nturgbd_skeletons_s001_to_s017.zip"
                " and nturgbd_skeletons_s018_to_s032.zip (114,480 clips together)"
            ),
            "unpack both into one folder",
            (
                f"put NTU_RGBD120_samples_with_missing_skeletons.txt from {_NTU_LISTS} into that"
                " folder"
            ),
        ),
    ),
    "pkummd1": Origin(
        title="PKU-MMD phase 1 (Liu et al., ACM Multimedia workshop 2017)",
        licence=_PKU_LICENCE,
        address=_PKU_ADDRESS,
        steps=(
            _PKU_ASK,
            "of phase 1 take Data/Skeleton.7z, Label/Label_PKUMMD.7z and the files in Split/",
            (
                "unpack both with 7-Zip, the labels into a folder named Label, and put the split"
                " files beside them"
            ),
        ),
    ),
    "pkummd2": Origin(
        title="PKU-MMD phase 2 (Liu et al., ACM Multimedia workshop 2017)",
        licence=_PKU_LICENCE,
        address=_PKU_ADDRESS,
        steps=(
            _PKU_ASK,
            (
                "of phase 2 take Data/Skeleton_v2.7z, Label/Label_PKUMMD_v2.7z, and"
                " cross_subject_v2.txt and cross_view_v2.txt from Split/"
            ),
            (
                "unpack both with 7-Zip, the labels into a folder named Label, and put the split"
                " files beside them"
            ),
        ),
    ),
    "nwucla": Origin(
        title="Northwestern-UCLA Multiview Action 3D (Wang et al., CVPR 2014)",
        licence="none stated; treat it as research only and do not pass it on",
        address="https://wangjiangb.github.io/my_data.html",
        steps=(
            "the original recordings, and whom to ask, are at the address",
            (
                "papers read a preparation of them, all_sqe.zip (1,484 .json files):"
                " https://github.com/Uason-Chen/CTR-GCN links it under 'NW-UCLA'"
            ),
            "unpack it",
        ),
    ),
    "utdmhad": Origin(
        title="UTD-MHAD (Chen et al., ICIP 2015)",
        licence="none stated; cite the paper, treat it as research only and do not pass it on",
        address="https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
        steps=("open the address and download Skeleton.zip alone (861 .mat files)", "unpack it"),
    ),
    "uiprmd": Origin(
        title="UI-PRMD (Vakanski et al., Data 2018)",
        licence=(
            "Open Data Commons Public Domain Dedication and License v1.0: free to use and to"
            " pass on"
        ),
        address="https://webpages.uidaho.edu/ui-prmd",
        steps=(
            (
                "take 'Segmented Movements.zip' and 'Incorrect Segmented Movements.zip' from the"
                " address; in 2026 it was reported not to answer, which is why the download below"
                " takes a copy"
            ),
            "unpack both into one folder",
        ),
        # The copy is a public repository at one commit, which fixes every byte in it. GitHub packs
        # its archive anew now and then, so the archive's own checksum is not a constant that could
        # stand here.
        download=RemoteFile(
            name="uiprmd.tar.gz",
            url=f"https://github.com/niemasd/UI-PRMD-Analysis/archive/{_UIPRMD_COMMIT}.tar.gz",
            keep="*/data/*Segmented Movements/Kinect/*",
            inside=f"UI-PRMD-Analysis-{_UIPRMD_COMMIT}/data",
        ),
    ),
}
"""Where the data sets come from, by the names that ``harness data prepare`` takes."""


def origin(name: str) -> Origin:
    """Where a data set comes from; a `DataError` for an unknown name,
    or for a format of files of one's own.
    """
    from datasets.raw import SOURCES, raw_word

    if name in SOURCES and name not in ORIGINS:
        raise DataError(
            f"{name} is a format of files of your own, nothing to download; next: python -m harness"
            f" data prepare {name} --raw {raw_word(name)}"
        )
    if name not in ORIGINS:
        raise DataError(
            f"unknown data set {name!r}; {nearest(name, ORIGINS)}known ones: {listed(ORIGINS)}"
        )
    return ORIGINS[name]


def how_to_get(name: str) -> str:
    """The way to a data set's raw files in several lines: licence, address, steps;
    a `DataError` for unknown names.
    """
    found = origin(name)
    steps = [*found.steps, f"python -m harness data prepare {name} --raw FOLDER"]
    lines = [found.title, f"  licence: {found.licence}", f"  address: {found.address}"]
    lines += [f"  {number}. {step}" for number, step in enumerate(steps, start=1)]
    if found.download is not None:
        lines.append(f"  or: python -m harness data download {name} (a copy: {found.download.url})")
    return "\n".join(lines)
