"""The life of a drop file in the ledger: which state may follow which. No other step is taken."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a drop file stands."""

    NEW = "new"  # not in the ledger
    PENDING = "pending"  # its rows are flushed, its records are being written
    COMMITTED = "committed"  # its rows are final
    SKIPPED = "skipped"  # its content was there before
    QUARANTINED = "quarantined"  # it is bad


STEPS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.PENDING, State.SKIPPED, State.QUARANTINED, State.COMMITTED}),
    State.PENDING: frozenset({State.COMMITTED, State.NEW}),
    State.COMMITTED: frozenset({State.NEW}),
    State.SKIPPED: frozenset({State.NEW}),
    State.QUARANTINED: frozenset({State.NEW}),
}
"""NEW to COMMITTED is an output's own record of a file that the ledger had lost;
COMMITTED to NEW, that its output was lost or begun anew."""


def check(old: State, new: State) -> None:
    """Allow the step from ``old`` to ``new``, or raise AssertionError: it is our own bug."""
    assert new in STEPS[old], f"no step leads from {old} to {new}"
