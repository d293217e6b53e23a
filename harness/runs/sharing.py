"""Which process does which cell of a folder: each cell once, whoever else works there.

A process takes a claim on a cell before it works on it, so that no two do the same work. With
``--claim`` it passes over what others have and comes back to it, to take it over where its owner
died; without, such a cell is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from datasets.wording import counted
from harness.errors import UsageError
from harness.isolation.stopping import stop_if_asked
from harness.progress import Reporter, Task
from harness.records.claims import Claims, Held, Owned, locked
from harness.records.schema import RunRecord
from harness.records.store import LOCK_FILE, RecordStore, write_matrix
from harness.training.build import Cell

Piece = TypeVar("Piece")
Named = tuple[str, str, int]
_LOOK_AGAIN = 2.0
"""Seconds between two looks at what others do."""


@dataclass
class Share:
    """This process's part of a folder's work.

    Attributes:
        shared: others may work here too; what they have is waited for.
        leaves: it is not: this process ends where others have all that is left, and gives its place
            back.
        before: the record of each cell by its address, when this process began.
    """

    store: RecordStore
    reporter: Reporter
    shared: bool = False
    leaves: bool = False
    before: Mapping[str, RunRecord | None] = field(default_factory=dict)
    claims: Claims = field(init=False)
    waiting: ExitStack = field(default_factory=ExitStack)
    """Holds the progress task while this process waits."""
    task: Task | None = None

    def __post_init__(self) -> None:
        self.claims = Claims(self.store.root)

    def refuse_taken(self, cells: Sequence[Cell]) -> None:
        """`UsageError` where another process works on one of the cells and nobody said
        that the work is shared.
        """
        if not self.shared:
            for cell in cells:
                if holder := self.claims.holder(cell.spec.address):
                    raise UsageError(_taken(f"{cell.label}, seed {cell.spec.seed}", str(holder)))

    def at_work(self, addresses: Iterable[str]) -> bool:
        """Others share this work, and one of them works on something of it now."""
        return self.shared and any(self.claims.holder(address) for address in addresses)

    def note(self, cells: Sequence[Cell]) -> None:
        """Leave word of what is to be done here, for `harness status`."""
        with locked(self.store.root / LOCK_FILE):
            write_matrix(
                self.store.root, {cell.spec.address: (cell.label, cell.spec.seed) for cell in cells}
            )

    def turns(self, cells: Sequence[Cell]) -> Generator[tuple[Cell, Owned], None, None]:
        """Every cell that this process has to do, claimed while it is at it;
        ends when all are done by somebody.
        """
        return self.turns_at(
            cells,
            lambda cell: (cell.spec.address, cell.label, cell.spec.seed),
            lambda cell: _done_meanwhile(
                self.before.get(cell.spec.address), self.store.run_of(cell.spec)
            ),
        )

    def turns_at(
        self,
        pieces: Sequence[Piece],
        named: Callable[[Piece], Named],
        done: Callable[[Piece], bool],
    ) -> Generator[tuple[Piece, Owned], None, None]:
        """The same of any pieces of work.

        Args:
            named: where a piece's claim lies in the folder, and whose row and seed it is.
            done: somebody has done it meanwhile.
        """
        left, holders = list(pieces), list[str]()
        while left:
            holders.clear()
            worked = False
            for piece in list(left):
                stop_if_asked()
                address, label, seed = named(piece)
                try:
                    with self.claims.hold(address, label, seed) as claim:
                        if not done(piece):
                            self.waited()
                            worked = True
                            yield piece, claim
                except Held as held:
                    if not self.shared and (holder := self.claims.holder(address)):
                        raise UsageError(_taken(f"{label}, seed {seed}", str(holder))) from None
                    holders.append(str(held.claim))
                else:
                    if not claim.lost:  # else another process has it, which is waited for
                        left.remove(piece)
            if holders:
                theirs = f"{counted(len(left), 'run')} ({', '.join(dict.fromkeys(holders))})"
                if not self.leaves:
                    self.wait("waiting for others", theirs)
                elif not worked:  # else what was held before that work may be free now
                    self.reporter.line(f"left to others: {theirs}")
                    break
        self.waited()

    @contextmanager
    def alone(self, address: str, what: str, there: Callable[[], bool]) -> Iterator[bool]:
        """Inside, this process alone works on something;
        False where another one had done it before.
        """
        while True:
            try:
                with self.claims.hold(address, what, 0):
                    self.waited()
                    yield not there()
                return
            except Held as held:
                if not self.shared:
                    raise UsageError(_taken(what, str(held.claim))) from None
                holder = str(held.claim)
            self.wait("waiting for others", f"{what} ({holder})")

    def wait(self, name: str, detail: str) -> None:
        """Until it is worth looking again; one task for as long as it lasts."""
        if self.task is None:
            self.task = self.waiting.enter_context(self.reporter.task(name))
        self.task(0, 0, detail)
        time.sleep(_LOOK_AGAIN)
        stop_if_asked()

    def waited(self) -> None:
        """There is something to do again."""
        self.waiting.close()
        self.task = None


def _taken(what: str, holder: str) -> str:
    """The line for who starts the same work twice."""
    return (
        f"{holder} works on {what} in this folder; add --claim to share the work, or choose another"
        " --out"
    )


def _done_meanwhile(before: RunRecord | None, after: RunRecord | None) -> bool:
    """Another process ended this cell since we began, well or not;
    one that was stopped is still to do.
    """
    return after is not None and after != before and after.status != "interrupted"
