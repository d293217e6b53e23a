"""A guard around every call into a method, whose code is anybody's: what it does ends in its own
row.

    guard = Guard()
    with guard("training"):
        method.loss(x)

Whatever is thrown inside comes out as an `Exception`, `SystemExit` too; only a stop by the user
passes as it is. What was changed of the state that all of a process shares (`SETTINGS`) is put
back. A change of what others compute, or how fast, or where they write, is a `MethodFault`; the
rest is a warning in ``guard.warnings``.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.errors import MethodFault, one_line
from harness.isolation.outliving import Call, overseen, stop_timers, timers
from harness.isolation.stopping import Stopped, stop_if_asked, stops_are_told
from methods.base import About, Method, MethodOptions

Difference = Callable[[Any, Any], str]


def _difference(before: Any, after: Any) -> str:
    """``1 to 2``; of mappings the keys whose values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        changed = [key for key in (before | after) if before.get(key, ...) != after.get(key, ...)]
        return ", ".join(str(getattr(key, "name", key)) for key in changed)
    return f"{before} to {after}"


@dataclass(frozen=True)
class Setting:
    """A part of the state that everything in a process shares.

    Attributes:
        name: as it stands in a message.
        put: sets it back to what ``get`` returned.
        harmless: others compute the same whatever it is: put back, it is worth a warning only.
        tell: what changed, in words; an empty string for a change that nobody need know of.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    harmless: bool = False
    tell: Difference = _difference


def _attribute(name: str, owner: object, key: str) -> Setting:
    """A setting that is an attribute."""
    return Setting(name, partial(getattr, owner, key), partial(setattr, owner, key))


# --- what only functions can set back ---


def _put_default_device(device: torch.device) -> None:
    torch.set_default_device(
        None if device.type == "cpu" else device
    )  # None costs nothing, a set "cpu" every call


def _autocast_nesting() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _put_autocast_nesting(before: int) -> None:
    while _autocast_nesting() > before:
        torch.autocast_decrement_nesting()
    # it holds weights as they were; whoever enters autocast last clears it
    torch.clear_autocast_cache()


def _put_inference_mode(before: bool) -> None:
    _entered.append(torch.inference_mode(before))  # a mode lasts as long as what entered it
    _entered[-1].__enter__()


_entered: list[torch.inference_mode] = []


def _flushes_denormals() -> bool:
    return float(torch.tensor(1e-38, dtype=torch.float32, device="cpu") * 0.01) == 0.0


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed
        return ""


def _put_working_directory(path: str) -> None:
    if path:
        os.chdir(path)


_OF_LOADERS = {signal.Signals[name] for name in ("SIGCHLD",) if name in signal.Signals.__members__}
"""torch sets its handler for good when a process first loads with workers,
in whichever method's row that is.
"""
_SIGNALS = tuple(sorted(signal.valid_signals() & set(signal.Signals) - _OF_LOADERS))
"""On Windows `signal.Signals` has two more, which are sent and never handled."""


def _handlers() -> dict[int, Any]:
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not None}


def _put_handlers(before: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _timers_set(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    """Only what is set: one that was has rung meanwhile, for whoever wants it."""
    return ", ".join(name for name in after if name not in before)


def _mask() -> list[Setting]:
    if not hasattr(signal, "pthread_sigmask"):
        return []
    mask = signal.pthread_sigmask
    get, put = partial(mask, signal.SIG_BLOCK, ()), partial(mask, signal.SIG_SETMASK)
    return [Setting("blocked signals", get, put, tell=_signals_blocked)]


def _signals_blocked(before: set[int], after: set[int]) -> str:
    return ", ".join(sorted(str(getattr(number, "name", number)) for number in before ^ after))


_TORCH_SETS = ("TORCH", "_TORCH", "TRITON", "KINETO", "CUDA_MODULE_LOADING")
"""Beginnings of the variables that torch sets by itself, when it compiles or first meets a GPU."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_TORCH_SETS)}


def _put_environment(before: dict[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _put_paths(before: dict[str, None]) -> None:
    sys.path[:] = before


def _paths_of_its_own(before: dict[str, None], after: dict[str, None]) -> str:
    """Not those that a library adds for itself, as setuptools does when torch compiles."""
    return _difference(
        *({path: 0 for path in paths if "site-packages" not in path} for paths in (before, after))
    )


def _put_filters(before: tuple[Any, ...]) -> None:
    warnings.resetwarnings()  # tells the warnings that their filters have changed
    warnings.filters[:] = before  # type: ignore[index]


def _silenced(before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    """Only a filter for all warnings: libraries add some of their own when they are imported."""
    added = [filter_ for filter_ in after if filter_ not in before]
    return (
        "all of them silenced"
        if any(f[0] == "ignore" and f[1:] == (None, Warning, None, 0) for f in added)
        else ""
    )


def _put_streams(before: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = before


def _affinity() -> list[Setting]:
    if not hasattr(os, "sched_setaffinity"):
        return []
    return [
        Setting(
            "the processors", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)
        )
    ]


def _autocast(device: str) -> Setting:
    get, put = torch.is_autocast_enabled, torch.set_autocast_enabled
    return Setting(f"autocast ({device})", partial(get, device), partial(put, device))


_cuda, _cudnn, _mkldnn = (
    cast(Any, getattr(torch.backends, name)) for name in ("cuda", "cudnn", "mkldnn")
)

SETTINGS: tuple[Setting, ...] = (
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's default device", torch.get_default_device, _put_default_device),
    Setting("torch's gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("torch's inference mode", torch.is_inference_mode_enabled, _put_inference_mode),
    Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    _autocast("cpu"),
    _autocast("cuda"),
    Setting("autocast's nesting", _autocast_nesting, _put_autocast_nesting),
    Setting(
        "torch's deterministic mode",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    Setting("flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
    Setting(
        "torch's matmul precision",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    _attribute("precision of CUDA's matrix products", _cuda.matmul, "fp32_precision"),
    _attribute("precision of the processor's matrix products", _mkldnn.matmul, "fp32_precision"),
    _attribute("precision of cuDNN's convolutions", _cudnn.conv, "fp32_precision"),
    _attribute("cuDNN", _cudnn, "enabled"),
    _attribute("cuDNN's benchmark mode", _cudnn, "benchmark"),
    _attribute("cuDNN's deterministic mode", _cudnn, "deterministic"),
    Setting("flash attention", _cuda.flash_sdp_enabled, _cuda.enable_flash_sdp),
    Setting(
        "memory-efficient attention",
        _cuda.mem_efficient_sdp_enabled,
        _cuda.enable_mem_efficient_sdp,
    ),
    Setting("plain attention", _cuda.math_sdp_enabled, _cuda.enable_math_sdp),
    Setting("cuDNN's attention", _cuda.cudnn_sdp_enabled, _cuda.enable_cudnn_sdp),
    Setting("torch's threads", torch.get_num_threads, torch.set_num_threads),
    *_affinity(),
    Setting("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Setting("the working directory", _working_directory, _put_working_directory),
    Setting("timers", timers, stop_timers, tell=_timers_set),
    Setting("handlers of signals", _handlers, _put_handlers),
    *_mask(),
    Setting("environment variables", _environment, _put_environment, harmless=True),
    Setting("Python's profiler", sys.getprofile, sys.setprofile),
    Setting("Python's tracer", sys.gettrace, sys.settrace, harmless=True),  # a debugger's, say
    Setting(
        "Python's path",
        lambda: dict.fromkeys(sys.path),
        _put_paths,
        harmless=True,
        tell=_paths_of_its_own,
    ),
    Setting(
        "filters of warnings",
        lambda: tuple(warnings.filters),
        _put_filters,
        harmless=True,
        tell=_silenced,
    ),
    Setting(
        "numpy's treatment of errors", np.geterr, lambda before: np.seterr(**before), harmless=True
    ),
    Setting(
        "standard output",
        lambda: (sys.stdout, sys.stderr),
        _put_streams,
        harmless=True,
        tell=lambda before, after: "replaced",
    ),
    Setting(
        "torch's seed", torch.initial_seed, lambda seed: None, harmless=True
    ),  # `seeded` gives it back
)


@dataclass
class Guard:
    """Watches over the calls into one method.

    Attributes:
        warnings: what it changed that harms nobody, each once.
    """

    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def __call__(self, doing: str) -> Iterator[None]:
        """A call into the method; ``doing`` stands in messages.

        Raises:
            MethodFault: what was thrown inside is no `Exception`, or shared state was changed that
                others depend on.
            Stopped: the user asked to stop; also when the method swallowed that.
        """
        with overseen() as call:
            before = [setting.get() for setting in SETTINGS]
            try:
                yield
            except BaseException as error:
                for text in self._put_right(call, before, doing):
                    self.warn(f"{text} ({doing})")
                stop_if_asked()
                if is_stop(error) or isinstance(error, Exception):
                    raise
                raise MethodFault(one_line(error)).with_traceback(error.__traceback__) from error
            faults = self._put_right(call, before, doing)
        stop_if_asked()
        if faults:
            raise MethodFault(f"{'; '.join(faults)} ({doing}); leave the process as it was")

    def _put_right(self, call: Call, before: list[Any], doing: str) -> list[str]:
        """End what a call started and set back what it changed; what of it may harm others.
        The rest is a warning.
        """
        faults = call.close()
        for text in call.thrown:
            self.warn(f"{text} ({doing})")
        for setting, text in _put_back(before):
            if setting.harmless:
                self.warn(f"{text} ({doing})")
            else:
                faults.append(text)
        return faults

    def warn(self, text: str) -> None:
        """Keep a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)


def _put_back(before: list[Any]) -> list[tuple[Setting, str]]:
    """Set everything back that has changed; what that was, with words on each."""
    after = [setting.get() for setting in SETTINGS]
    for setting, old in zip(SETTINGS, before, strict=True):
        if setting.get() != old:  # asked again: setting one back may have changed another
            setting.put(old)
    changed = [
        (setting, setting.tell(old, new))
        for setting, old, new in zip(SETTINGS, before, after, strict=True)
        if new != old
    ]
    return [(setting, f"changed {setting.name}: {text}") for setting, text in changed if text]


def is_stop(error: BaseException) -> bool:
    """The user, or the system, wants this process to end;
    a method that raises `KeyboardInterrupt` itself does not.
    """
    return isinstance(error, Stopped) or (
        isinstance(error, KeyboardInterrupt) and not stops_are_told()
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the random numbers of Python, numpy and torch begin at the seed;
    outside they go on as they were.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a method may use the global one
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        if not devices and torch.cuda.is_initialized():  # inside, at this seed: not the caller's
            torch.cuda.manual_seed_all(torch.initial_seed())


def random_state() -> dict[str, torch.Tensor]:
    """Where the random numbers of Python, numpy and torch (host, and the device in use) stand,
    as tensors.
    """
    _, python, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    found = {
        "python": torch.tensor(python),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys, np.int64)),
        "numpy_position": torch.tensor([position, has_gauss]),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.random.get_rng_state(),
    }
    return {**found, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else found


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Go on from a `random_state`."""
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["numpy_position"].tolist()
    keys = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, state["numpy_gauss"].item()))  # noqa: NPY002
    torch.random.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


# --- methods that cannot even be described ---


class AnyOptions(MethodOptions):
    """Takes what was asked for."""

    model_config = ConfigDict(extra="allow", frozen=True)


class StandIn(Method[AnyOptions]):
    """In the place of a method that did not load or says nonsense of itself: a row that fails,
    with the reason.
    """

    reason: ClassVar[str] = ""
    Options = AnyOptions

    def __init__(self, encoder: Any, options: AnyOptions) -> None:
        raise MethodFault(self.reason)


def stand_in(name: str, reason: str) -> type[StandIn]:
    """The stand-in of a method of that name; its source is nobody's."""
    words = {"reason": reason, "about": About(title=name, paper="none"), "__module__": ""}
    return type(StandIn.__name__, (StandIn,), words)


def problem_of_about(method: type[Method]) -> str:
    """What is wrong with a method's words about itself; an empty string when nothing is."""
    about = getattr(method, "about", None)
    if not isinstance(about, About):
        return f"about: expected an About(title=..., paper=...), found {about!r}"
    try:
        TypeAdapter(About).validate_python(vars(about))
    except ValidationError as error:
        first = error.errors()[0]
        return f"about.{'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r}"
    return ""
