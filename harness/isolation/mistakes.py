"""What a method's code threw, as one line that leads into the method's own file.

    try:
        method.loss(x)
    except Exception as error:
        print(mistake(error, type(method)))
    # RuntimeError: mat1 and mat2 shapes cannot be multiplied (18x16 and 256x3) (mine.py, line 14);
    ...

The place is the innermost line of the method's own file, however deep in a library the exception
came up. What many get wrong at first has a hint (`harness.isolation.hints`).
"""

from __future__ import annotations

import gc
import inspect
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.errors import MethodFault, one_line
from harness.isolation.hints import HINTS
from methods.base import Method

_LONGEST = 240
"""Characters of an exception's own words that are shown."""
_TAIL = re.compile(
    r"from user code:|Set TORCHDYNAMO_VERBOSE|Developer debug context|Exception raised from|CUDA"
    r" kernel errors might|"
    r"Compile with `TORCH_USE_CUDA_DSA`|For further information visit|Hints?: "
)
"""Where a library's words for its own developers begin."""
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_WRAPPED = re.compile(r"(?:got |raised: )(?P<kind>\w+)(?:\((['\"])|: )(?P<text>.+?)(?:\2\)|$)")
_CALLED = re.compile(r"^TypeError: (?:\w+\.)*(?P<function>\w+)\(\) ")


@dataclass(frozen=True)
class Mistake:
    """What a method's code threw.

    Attributes:
        words: type and message.
        place: ``mine.py, line 14``; empty where nobody knows.
        hint: what to change, for what is common.
    """

    words: str
    place: str = ""
    hint: str = ""

    @property
    def same(self) -> tuple[str, str]:
        """Equal for mistakes of one kind on one line, whatever the numbers in their words."""
        return (self.words.partition(":")[0], self.place) if self.place else (self.words, "")

    def __str__(self) -> str:
        place, hint = f" ({self.place})" * bool(self.place), f"; {self.hint}" * bool(self.hint)
        return f"{self.words}{place}{hint}"


def mistake(error: BaseException, method: type[Method] | Path | None) -> Mistake:
    """The mistake behind an exception.

    Args:
        method: whose code ran, or the file that was being imported; None where only the harness's
            own code did.
    """
    if isinstance(error, MethodFault) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MethodFault):
        return Mistake(one_line(error))
    words = _in_words(error)
    hint = _hint_for(words)
    return Mistake(words, _place_of(error, words, method, common=bool(hint)), hint)


def _in_words(error: BaseException) -> str:
    """Type and message on one line, without what a library adds for its developers."""
    text = " ".join(_TAIL.split(_message(error), maxsplit=1)[0].split())
    kind, where = type(error).__name__, ""
    if type(error).__module__.startswith(
        "torch._dynamo"
    ):  # the compiler wraps in its own what the method's code threw
        where = ", under torch.compile"
        if found := _WRAPPED.search(text):
            kind, text = found["kind"], found["text"]
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    text = text.removesuffix(".") if where else text
    return f"{kind}{f': {text}' if text else ''}{where}"


def _message(error: BaseException) -> str:
    """An exception's own words."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a message may be broken as well
        return "a message that cannot be read"


def _hint_for(words: str) -> str:
    """The first hint whose sign is there."""
    for hint in HINTS:
        if found := re.search(hint.sign, words):
            return hint.text.format(**found.groupdict())
    return ""


def forget_frames(error: BaseException) -> None:
    """Let go of all that the frames of a kept exception hold; it can be formatted as before.

    A step that ran out of memory leaves its activations in the variables of its frames: kept with
    the exception they would fill the device for as long as others are timed. To be called once
    those frames have ended: the variables of one that still runs stay.
    """
    chain: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (one := waiting.pop()) is not None and id(one) not in chain:
            chain[id(one)] = one
            waiting += [one.__cause__, one.__context__]
    for one in chain.values():
        traceback.clear_frames(one.__traceback__)
    if torch.cuda.is_initialized():
        gc.collect()  # what refers to itself, as compiled code may
        torch.cuda.empty_cache()


# --- where ---


def _place_of(
    error: BaseException, words: str, method: type[Method] | Path | None, *, common: bool
) -> str:
    """``mine.py, line 14``: the innermost line of the method's own file; else of what it called
    wrongly.

    Args:
        common: the mistake is known, and it is the method's.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # it says so itself
    for file in _own_files(method):
        if lines := [line for name, line in _passed(error) if name == file]:
            return at(file, lines[-1])
    if inspect.isclass(method):
        called = _CALLED.search(words)
        name = called["function"] if called else "loss" if _in_backward(error) else ""
        if place := _site(method, name) or (_site(method) if common else ""):
            return place
    frames = traceback.extract_tb(error.__traceback__)
    return at(frames[-1].filename, frames[-1].lineno or 0) if frames else ""


def at(file: str, line: int) -> str:
    """``mine.py, line 14``."""
    return f"{Path(file).name}, line {line}"


def _own_files(method: type[Method] | Path | None) -> list[str]:
    """The file of a method's class, then those of the classes it is derived from;
    none of the contract's.
    """
    if isinstance(method, Path):
        return [str(method.resolve())]
    classes = (
        [one for one in method.__mro__ if issubclass(one, Method) and one is not Method]
        if method
        else []
    )
    return list(dict.fromkeys(file for one in classes if (file := source_of(one))))


def source_of(item: Any) -> str:
    """The file that something is defined in; empty for what has none."""
    try:
        return inspect.getsourcefile(inspect.unwrap(item)) or ""
    except TypeError:
        return ""


def _passed(error: BaseException) -> Iterator[tuple[str, int]]:
    """Files and lines that an exception came through, innermost last.

    What torch.compile traces has no frame of its own: it stands in the message.
    """
    for found in _FRAME.finditer(_message(error)):
        yield found["file"], int(found["line"])
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_code.co_filename, line


def _in_backward(error: BaseException) -> bool:
    """Whether the backward pass threw it, which runs without the method's frames."""
    return any(
        frame.f_code.co_name == "backward" for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _site(method: type[Method], name: str = "") -> str:
    """Where a class, or its own function of that name, begins; empty where nobody knows."""
    function: Any = getattr(method, name, None) if name else method
    file = source_of(function) if function is not None else ""
    if file not in _own_files(method):
        return ""
    try:
        return at(file, inspect.getsourcelines(inspect.unwrap(function))[1])
    except OSError:
        return ""
