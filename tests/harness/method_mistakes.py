"""Mistakes that a newcomer makes in a plugin, each with the line that must be named and the words
that must help.

The line is the one that ends in ``# here``. What is not given is right.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD = """from copy import deepcopy

import numpy as np
import torch
from pydantic import Field
from torch import nn

from methods.base import About, Diagnosis, Method, MethodOptions, View
from methods.parts.masks import random_mask


"""
OPTIONS = """class Options(MethodOptions):
    ratio: float = Field(default=0.8, gt=0, lt=1)


"""
CLASS = "class Mistaken(Method):"
ABOUT = (
    '    about = About(title="Mistaken", paper="none: made up for a test")\n    Options = Options\n'
)
INIT = """
    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
"""
LOSS = """
    def loss(self, x):
        made = self.head(self.encoder(x).mean(1))
        loss = (made - x.mean((1, 2))).square().mean()
        return loss, {"position": loss.detach()}
"""


@dataclass(frozen=True)
class Case:
    """A plugin's text, and what its message must hold beside the line.

    Attributes:
        check: name of the check that finds it; the first where a loss cannot be had at all.
        runs: a run finds it too, in eager mode on a CPU.
    """

    text: str
    words: tuple[str, ...]
    check: str = "loss is one finite number"
    runs: bool = True

    @property
    def line(self) -> int:
        """Number of the line that must be named."""
        return next(
            number
            for number, text in enumerate(self.text.splitlines(), 1)
            if text.endswith("# here")
        )


def plugin(
    *,
    options: str = OPTIONS,
    head: str = CLASS,
    about: str = ABOUT,
    init: str = INIT,
    loss: str = LOSS,
    more: str = "",
) -> str:
    """The text of a plugin."""
    return f"{HEAD}{options}{head}\n{about}{init}{loss}{more}"


def init(*lines: str) -> str:
    """A constructor that ends in these lines."""
    return INIT + "".join(f"        {line}\n" for line in lines)


def loss(*lines: str) -> str:
    """A loss function of these lines."""
    return "\n    def loss(self, x):\n" + "".join(f"        {line}\n" for line in lines)


MADE = "made = self.head(self.encoder(x).mean(1))"
ERROR = "loss = (made - x.mean((1, 2))).square().mean()"
RETURN = "return loss, {}"
SIZES = "encoder.width, encoder.grid.joints"
META = "FLOPs do not depend on the kernel"

MISTAKES = {
    # --- the contract ---
    "forgotten super": Case(
        plugin(
            init=INIT.replace("        super().__init__(encoder, options)\n", "").replace(
                "3)", "3)  # here"
            )
        ),
        ("super().__init__(encoder, options)",),
    ),
    "forgotten super without a module": Case(
        plugin(
            head=f"{CLASS}  # here",
            init="\n    def __init__(self, encoder, options):\n        self.scale = 1.0\n",
            loss=loss("loss = self.encoder(x).square().mean()", RETURN),
        ),
        ("super().__init__(encoder, options)",),
    ),
    "super without arguments": Case(
        plugin(init=INIT.replace("__init__(encoder, options)\n", "__init__()  # here\n", 1)),
        ("super().__init__(encoder, options)",),
    ),
    "constructor without options": Case(
        plugin(init=INIT.replace("self, encoder, options):", "self, encoder):  # here")),
        ("def __init__(self, encoder, options)",),
    ),
    "bare loss": Case(
        plugin(loss=loss(MADE, ERROR, "return loss  # here")),
        ("(loss, parts)", "found a Tensor alone"),
    ),
    "loss without a return": Case(
        plugin(loss=loss(MADE, ERROR).replace("x):", "x):  # here")),
        ("(loss, parts)", "found None"),
    ),
    "three values": Case(
        plugin(loss=loss(MADE, ERROR, "return loss, made, {}  # here")),
        ("(loss, parts)", "found a tuple of 3"),
    ),
    "a loss for each body": Case(
        plugin(
            loss=loss(
                MADE, "loss = (made - x.mean((1, 2))).square().mean(1)", "return loss, {}  # here"
            )
        ),
        ("a loss that is one number in a tensor, found a Tensor of shape [", "take its .mean()"),
    ),
    "a loss as a number": Case(
        plugin(loss=loss(MADE, ERROR, "return loss.item(), {}  # here")),
        ("a loss that is one number in a tensor", "a float", "no float() or .item()"),
        runs=False,
    ),
    "a loss without a gradient": Case(
        plugin(loss=loss("with torch.no_grad():", f"    {MADE}", ERROR, "return loss, {}  # here")),
        ("a loss with a gradient, found none",),
    ),
    "parts as a list": Case(
        plugin(loss=loss(MADE, ERROR, "return loss, [loss.detach()]  # here")),
        ("parts as a dict", "a list of 1"),
    ),
    "parts that are numbers": Case(
        plugin(loss=loss(MADE, ERROR, 'return loss, {"position": 0.5}  # here')),
        ("part 'position'", "a float"),
    ),
    "parts with a gradient": Case(
        plugin(loss=loss(MADE, ERROR, 'return loss, {"position": loss}  # here')),
        ("part 'position'", ".detach()"),
    ),
    "no loss": Case(
        plugin(head=f"{CLASS}  # here", loss=""), ("NotImplementedError", "def loss(self, x)")
    ),
    "a loss without x": Case(
        plugin(loss="\n    def loss(self):  # here\n        return self.head.weight.sum(), {}\n"),
        ("def loss(self, x)",),
    ),
    "after_step without progress": Case(
        plugin(more="\n    def after_step(self):  # here\n        pass\n"),
        ("def after_step(self, progress)",),
        "loss falls on synthetic data",
    ),
    "a diagnosis that is a dict": Case(
        plugin(more='\n    def diagnose(self, x):\n        return {"std": 1.0}  # here\n'),
        ("a Diagnosis, found a dict",),
        "diagnosis holds finite numbers",
    ),
    "no evaluated encoder": Case(
        plugin(
            head=f"{CLASS}  # here",
            more="\n    def evaluated_encoder(self):\n        self.encoder\n",
        ),
        ("evaluated_encoder()",),
        "evaluated encoder keeps its hash",
    ),
    "options not named": Case(
        plugin(
            about=ABOUT.replace("    Options = Options\n", ""),
            init=init("self.r = self.options.ratio  # here"),
        ),
        ("Options = ", "ratio"),
    ),
    "an option that does not exist": Case(
        plugin(init=init("self.depth = options.depth  # here")), ("add a field to Options: depth",)
    ),
    "options written to": Case(
        plugin(init=init("self.options.ratio = 0.5  # here")), ("keep the value in self",)
    ),
    "several views as one": Case(
        plugin(
            about=f"{ABOUT}    views = (View(), View())\n",
            loss=LOSS.replace(
                "made = self.head(self.encoder(x)", "made = self.head(self.encoder(x.flip(0))"
            ).replace("mean(1))", "mean(1))  # here"),
        ),
        ("one, other = x",),
    ),
    "a mask for its visible tokens": Case(
        plugin(
            loss=loss(
                "mask = random_mask(x, self.encoder.grid, self.options.ratio)",
                "made = self.head(self.encoder(x, mask).mean(1))  # here",
                ERROR,
                RETURN,
            )
        ),
        ("mask.visible",),
    ),
    # --- shapes ---
    "a fixed width": Case(
        plugin(
            init=INIT.replace("encoder.width", "256"),
            loss=LOSS.replace("mean(1))", "mean(1))  # here"),
        ),
        ("built for 256 numbers", SIZES),
    ),
    "a decoder of another width": Case(
        plugin(
            init=init("self.decoder = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)"),
            loss=LOSS.replace(
                "self.encoder(x).mean(1))", "self.decoder(self.encoder(x)).mean(1))  # here"
            ),
        ),
        ("32", SIZES),
    ),
    "a norm of another width": Case(
        plugin(
            init=init("self.norm = nn.LayerNorm(64)"),
            loss=LOSS.replace(
                "self.encoder(x).mean(1))", "self.norm(self.encoder(x)).mean(1))  # here"
            ),
        ),
        ("built for 64 numbers and is given ", SIZES),
    ),
    "fixed joints": Case(
        plugin(
            init=INIT.replace("3)", "25 * 3)"),
            loss=loss(
                MADE,
                "target = x.mean(1).flatten(1)",
                "loss = (made - target).square().mean()  # here",
                RETURN,
            ),
        ),
        ("one side has ", " numbers there, the other ", SIZES),
        "works with 15 joints",
    ),
    "a target of another shape": Case(
        plugin(
            loss=loss(
                MADE, "loss = nn.functional.mse_loss(made, x.mean((1, 2))[:, :1])  # here", RETURN
            )
        ),
        ("give both the same .shape",),
        runs=False,
    ),
    "a reshape that does not fit": Case(
        plugin(
            loss=loss(
                "made = self.encoder(x).view(len(x), 7, -1)  # here", "return made.mean(), {}"
            )
        ),
        (SIZES,),
    ),
    # --- gradients ---
    "in place on a parameter": Case(
        plugin(
            init=init("self.token = nn.Parameter(torch.zeros(3))"),
            loss=loss("self.token += 1  # here", MADE, ERROR, RETURN),
        ),
        ("a = a + b",),
    ),
    "in place on what the gradient needs": Case(
        plugin(
            loss=loss(  # here
                "made = self.head(self.encoder(x).mean(1)).sigmoid()",
                "loss = (made * made).mean()",
                "made += 1",
                RETURN,
            ).replace("x):", "x):  # here")
        ),
        ("modified by an inplace operation", ".clone()"),
        "loss falls on synthetic data",
    ),
    "kept from the last step": Case(
        plugin(
            init=init("self.mean = torch.zeros(())"),
            loss=loss(
                MADE, "self.mean = 0.9 * self.mean + made.mean()", f"{ERROR} + self.mean", RETURN
            ).replace("x):", "x):  # here"),
        ),
        ("a second time", ".detach()"),
        "loss falls on synthetic data",
    ),
    "a copy in the loss": Case(
        plugin(
            init=init("self.kept = self.head.weight * 2"),
            loss=loss("copy = deepcopy(self.kept)  # here", MADE, ERROR, RETURN),
        ),
        ("deepcopy modules, in __init__",),
    ),
    # --- device and precision ---
    "made on the processor": Case(
        plugin(loss=loss(MADE, "loss = (made - torch.zeros(3)).square().mean()  # here", RETURN)),
        ("device=x.device",),
        META,
    ),
    "a branch on a value": Case(
        plugin(loss=loss(MADE, ERROR, "if loss > 100:  # here", "    loss = loss / 2", RETURN)),
        ("torch.where",),
        META,
    ),
    "float64 from numpy": Case(
        plugin(
            loss=loss(
                "x = x * torch.from_numpy(np.ones(3)).to(x.device)",
                f"{MADE}  # here",
                ERROR,
                RETURN,
            )
        ),
        (".to(x.dtype)",),
    ),
    "numpy in the loss": Case(
        plugin(loss=loss(MADE, "spread = made.numpy().std()  # here", ERROR, RETURN)),
        ("stay in torch",),
    ),
    "moved to a device": Case(
        plugin(init=INIT.replace("3)", '3).to("cpu")  # here')),
        ("leave .to(), .cpu() and device= out",),
        META,
    ),
    # --- about ---
    "about as a dict": Case(
        plugin(
            head=f"{CLASS}  # here",
            about='    about = {"title": "Mistaken"}\n    Options = Options\n',
        ),
        ("about = About(",),
        "mask ratio honoured",
        runs=False,
    ),
    # --- of its own ---
    "its own assert": Case(
        plugin(loss=loss('assert x.shape[1] == 7, "seven frames"  # here', MADE, ERROR, RETURN)),
        ("AssertionError: seven frames",),
    ),
    "a name that does not exist": Case(
        plugin(loss=loss("made = self.haed(self.encoder(x).mean(1))  # here", ERROR, RETURN)),
        ("'Mistaken' object has no attribute 'haed'",),
    ),
}
