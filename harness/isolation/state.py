"""Parameters, their gradients and buffers before and after a call that must leave them as they are.

before = state_of(method)
method.diagnose(x)
before.changed(method)  # names
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class State:
    """A hash of every parameter, gradient and buffer of a module, by name."""

    hashes: dict[str, bytes]

    def changed(self, module: nn.Module) -> list[str]:
        """Names of what is another now, new or gone."""
        now = state_of(module).hashes
        return [name for name in (self.hashes | now) if self.hashes.get(name) != now.get(name)]


def state_of(module: nn.Module) -> State:
    """The state at this moment. Bits are hashed, so that what is no number is equal to itself."""
    parameters = dict(module.named_parameters())
    # A gradient left behind is added to that of the next step.
    gradients = {f"{name}.grad": p.grad for name, p in parameters.items() if p.grad is not None}
    tensors = parameters | gradients | dict(module.named_buffers())
    return State({name: _tensor_hash(tensor) for name, tensor in tensors.items()})


def _tensor_hash(tensor: Tensor) -> bytes:
    """Hash of a tensor's shape, type and bits."""
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    digest.update(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()
