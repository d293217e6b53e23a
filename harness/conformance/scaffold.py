"""`harness new-method NAME`: a small method that works, to be changed into another, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from pathlib import Path
from string import Template

from harness.errors import UsageError
from harness.records.store import write_atomically
from harness.registry import Registry, method_name

METHOD = Template('''\
"""$title: predict the coordinates of masked tokens, each relative to its own patch's mean."""

from __future__ import annotations

from typing import Self

from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import random_mask
from methods.parts.tokens import patchify, take


class ${cls}Options(MethodOptions):
    """Options; ``decoder_depth=0`` is 2 at ``base`` and in proportion to the encoder's depth elsewhere."""

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    decoder_depth: int = Field(default=0, ge=0)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in what depends on the encoder."""
        return self.model_copy(update={"decoder_depth": self.decoder_depth or scaled_depth(2, encoder)})


class $cls(Method[${cls}Options]):
    """Reconstruct where the joint of each masked token moves within its patch."""

    about = About(
        title="$title",
        paper="none: not published",  # a citation with its number: "Doe et al., ICCV 2025, arXiv 2501.01234"
        choices=("one sentence for each thing that the paper leaves open and what was chosen",),
    )
    Options = ${cls}Options

    def __init__(self, encoder: SkeletonEncoder, options: ${cls}Options) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(encoder, self.options.decoder_depth, outputs=encoder.grid.patch_width)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over masked tokens of body sequences ``x`` ``[B, T, V, 3]`` in metres."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)  # [B, visible tokens, width]
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, masked tokens, patch * 3]
        target = take(self.target(x), mask.masked)
        loss = (prediction - target).square().mean()
        return loss, {"coordinates": loss.detach()}

    def target(self, x: Tensor) -> Tensor:
        """Every patch minus its mean position, in decimetres, ``[B, L, patch * 3]``."""
        patches = patchify(x, self.encoder.grid.patch).unflatten(-1, (-1, 3))
        return 10 * (patches - patches.mean(dim=-2, keepdim=True)).flatten(-2)
''')

TEST = Template('''\
"""The conformance suite on `$name`, one test per check."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.conformance.specimen import Specimen
from harness.conformance.suite import CHECKS, Check, examine
from harness.registry import Registry

METHOD = Registry([Path(__file__).with_name("$module.py")]).method("$name")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_$module(check: Check) -> None:
    """Passes, or has no meaning for this method."""
    result = examine(check, Specimen(METHOD))
    assert result.passed, result.reason
''')


def write_method(name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.py`` and ``test_<name>.py``, both or none; `UsageError` for a bad name or a file that exists."""
    module = module_name(name)
    check_name(module)
    texts = render(module)
    for path in (paths := (folder / f"{module}.py", folder / f"test_{module}.py")):
        if path.exists():
            raise UsageError(f"new-method: {path} exists already; choose another name or --out")
    try:
        for path, text in zip(paths, texts, strict=True):
            write_atomically(path, text.encode())
    except BaseException:
        paths[0].unlink(missing_ok=True)  # half of it would be in the way of the next try
        raise
    return paths


def render(module: str) -> tuple[str, str]:
    """The text of the method and of its test."""
    words = {
        "module": module,
        "name": method_name(module),
        "cls": "".join(word.capitalize() for word in module.split("_")),
        "title": module.replace("_", " ").capitalize(),
    }
    return METHOD.substitute(words), TEST.substitute(words)


def module_name(name: str) -> str:
    """``my-method`` to ``my_method``."""
    return name.replace("-", "_")


def check_name(module: str) -> None:
    """`UsageError` unless a new plugin file can have that name."""
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", module) or keyword.iskeyword(module):
        raise UsageError(
            f"new-method {module!r}: expected lower-case words joined by '-', starting with a letter, e.g. my-method"
        )
    if method_name(module) in Registry().methods:
        raise UsageError(f"new-method: a method called {method_name(module)!r} exists already; choose another name")
    if importlib.util.find_spec(module):
        raise UsageError(f"new-method: a Python module called {module!r} exists already; choose another name")


def next_commands(method: Path) -> tuple[str, str]:
    """What to type next."""
    name, plugin = method_name(method.stem), shlex.quote(str(method))
    return (
        f"python -m harness check-method {name} --plugin {plugin}",
        f"python -m harness run --methods {name},skeletonmae --plugin {plugin}",
    )
