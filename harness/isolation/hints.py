"""What exceptions mean for the writer of a method: a table of common mistakes, and what to change.

The first line whose sign is found in ``Type: message`` counts (`harness.isolation.mistakes`).
"""

from __future__ import annotations

from dataclasses import dataclass

SIZES = "sizes come from the encoder: encoder.width, encoder.grid.joints, .tokens, .patch_width"
SUPER = "call super().__init__(encoder, options) in the first line of __init__"


@dataclass(frozen=True)
class Hint:
    """What a message means for the writer of a method.

    Attributes:
        sign: searched for in ``Type: message``; its named groups may stand in `text`.
        text: what to change.
    """

    sign: str
    text: str


HINTS = (
    # --- the contract ---
    Hint(
        r"before Module\.__init__\(\) call|has no attribute '_(modules|parameters|buffers)'", SUPER
    ),
    Hint(r"object has no attribute '(encoder|options)'", SUPER),
    Hint(r"__init__\(\) missing \d+ required positional arguments?: .*'options'", SUPER),
    Hint(r"__init__\(\) takes .* were given", "write def __init__(self, encoder, options)"),
    Hint(r"loss\(\) (takes|missing)", "write def loss(self, x), which returns (loss, parts)"),
    Hint(r"after_step\(\) (takes|missing)", "write def after_step(self, progress)"),
    Hint(r"diagnose\(\) (takes|missing)", "write def diagnose(self, x), which returns a Diagnosis"),
    Hint(
        r"evaluated_encoder\(\) (takes|missing)",
        "write def evaluated_encoder(self), which returns an encoder",
    ),
    Hint(
        r"has no attribute '(architecture|parameter_count|grid)'",
        "evaluated_encoder() returns an encoder: self.encoder, or a copy of it such as a teacher",
    ),
    Hint(r"^NotImplementedError$", "write def loss(self, x), which returns (loss, parts)"),
    Hint(
        r"^TypeError: About\.__init__\(\)",
        'write About(title="...", paper="none: why"); the rest is optional',
    ),
    Hint(
        r"has no attribute '(division|control|epochs|paper)'",
        'write about = About(title="...", paper="none: why")',
    ),
    Hint(
        r"non-annotated attribute was detected: `(?P<name>\w+) ",
        "write the option with its type: {name}: float = ...",
    ),
    Hint(
        r"'MethodOptions' object has no attribute '(?P<name>\w+)'",
        "give the class a line Options = ..., a subclass of MethodOptions with a field {name}",
    ),
    Hint(
        r"'(?P<options>\w*Options)' object has no attribute '(?P<name>\w+)'",
        "add a field to {options}: {name}: float = ...",
    ),
    Hint(r"Instance is frozen", "options stay as they are; keep the value in self"),
    Hint(
        r"has no attribute 'model_validate'",
        "Options must be a subclass of methods.base.MethodOptions",
    ),
    Hint(
        r"'tuple' object has no attribute",
        "with several views x is a tuple with a batch of each: one, other = x",
    ),
    Hint(
        r"argument '\w+'.* must be Tensor, not Mask|'Mask' object",
        "give the encoder mask.visible, not the mask",
    ),
    # --- shapes ---
    Hint(
        r"mat1 and mat2 shapes cannot be multiplied \(\d+x(?P<found>\d+) and"
        r" (?P<expected>\d+)x\d+\)",
        "the layer was built for {expected} numbers and is given {found}; " + SIZES,
    ),
    Hint(
        r"same reduction dim, but got \[\d+, (?P<found>\d+)\] X \[(?P<expected>\d+), \d+\]",
        "the layer was built for {expected} numbers and is given {found}; " + SIZES,
    ),
    Hint(
        r"expected input with shape \[(\*, ?)?(?P<expected>[\d, ]+)\], but got input of"
        r" size.*?(?P<found>\d+)\]",
        "the layer was built for {expected} numbers and is given {found}; " + SIZES,
    ),
    Hint(
        r"expecting embedding dimension of (?P<expected>\d+), but got (?P<found>\d+)",
        "the layer was built for {expected} numbers and is given {found}; " + SIZES,
    ),
    Hint(
        r"to have (?P<expected>\d+) channels, but got (?P<found>\d+) channels",
        "the layer was built for {expected} channels and is given {found}; " + SIZES,
    ),
    Hint(
        r"size of tensor a \((?P<found>\d+)\) must match the size of tensor b"
        r" \((?P<expected>\d+)\)",
        "one side has {found} numbers there, the other {expected}; " + SIZES,
    ),
    Hint(
        r"broadcast a dimension of length (?P<found>\d+) at -1.* broadcastable to \[(.*,"
        r" )?(?P<expected>\d+)\]",
        "one side has {found} numbers there, the other {expected}; " + SIZES,
    ),
    Hint(r"Attempting to broadcast a dimension", SIZES),
    Hint(r"Using a target size", "one side was spread over the other: give both the same .shape"),
    Hint(
        r"shape '.*' is invalid for input of size|Sizes of tensors must match|split_with_sizes"
        r" expects",
        SIZES,
    ),
    Hint(r"index \d+ is out of (bounds|range)", SIZES),
    Hint(
        r"Expected dtype int64 for index|tensors used as indices must be",
        "take() wants mask.visible or mask.masked",
    ),
    Hint(
        r"Expected more than 1 value per channel",
        "batch norm needs two body sequences at least; use a layer norm",
    ),
    # --- gradients ---
    Hint(
        r"leaf Variable that requires grad.* in-place",
        "write a = a + b for a += b; weights change in after_step(progress), under torch.no_grad()",
    ),
    Hint(
        r"modified by an inplace operation",
        "the gradient needs what is changed in place (+=, x[...] = ..., relu_); work on a .clone()",
    ),
    Hint(
        r"backward through the graph a second time",
        ".detach() what is kept from one step to the next (a running mean, a teacher's output)",
    ),
    Hint(r"Only Tensors created explicitly by the user", "deepcopy modules, in __init__"),
    Hint(
        r"call numpy\(\) on Tensor that requires grad|convert \w+ .*tensor to numpy",
        "stay in torch: numpy leaves the device",
    ),
    # --- device and precision ---
    Hint(
        r"Cannot copy out of meta tensor",
        "the harness builds a method on its device, and a step stays there: leave .to(), .cpu() and"
        " device= out",
    ),
    Hint(
        r"Expected all tensors to be on the same device|is not on the expected device|found two"
        r" different devices",
        "what loss makes belongs on the batch's device: torch.zeros(..., device=x.device); what"
        " __init__ makes into self.register_buffer(name, tensor)",
    ),
    Hint(
        r"Stall: a (copy|tensor)",
        "a step copies nothing: make it once, in __init__, self.register_buffer(name,"
        " torch.as_tensor(numbers)), and leave .cpu() and .numpy() out",
    ),
    Hint(
        r"Stall: a value|cannot be called on meta|_local_scalar_dense|'Meta'"
        r" backend|data-dependent|"
        r"meta tensors|on meta",
        "a step must not ask for a tensor's value, which on a GPU it would wait for: torch.where"
        " for an if, no .item(), .tolist(), .nonzero() or boolean index",
    ),
    Hint(
        r"must have the same dtype|expected scalar type|same dtype, but got",
        "convert with .to(x.dtype): numpy makes float64, and layers under bf16 give bfloat16",
    ),
    Hint(r"^ModuleNotFoundError", "install it where `python -m harness` runs"),
)
