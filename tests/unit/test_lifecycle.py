"""The table of a drop file's life is whole, and its steps are the only ones."""

from __future__ import annotations

from itertools import product

import pytest

from ingestd.lifecycle import STEPS, State, check


def test_every_state_stands_in_the_table() -> None:
    assert set(STEPS) == set(State)


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_only_the_steps_of_the_table_are_taken(old: State, new: State) -> None:
    before = {state: set(steps) for state, steps in STEPS.items()}

    if new in STEPS[old]:
        check(old, new)
    else:
        with pytest.raises(AssertionError, match=f"from {old} to {new}"):
            check(old, new)

    assert before == STEPS


def test_every_state_can_be_reached_from_new_and_left_for_new() -> None:
    def reached(start: State) -> set[State]:
        seen, todo = set(), [start]
        while todo:
            state = todo.pop()
            if state not in seen:
                seen.add(state)
                todo += STEPS[state]
        return seen

    for state in State:
        assert reached(state) == set(State)


def test_a_bad_file_never_becomes_rows_without_being_new_again() -> None:
    assert STEPS[State.QUARANTINED] == STEPS[State.SKIPPED] == {State.NEW}
