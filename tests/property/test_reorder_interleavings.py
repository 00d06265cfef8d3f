"""Whatever decoding threads do in whatever order, files come out whole, in order, in bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.model import Block, Decoded, Ending, Opened
from ingestd.pipeline.reorder import Reorder

BOUND = 64


@dataclass
class Decoding:
    """One decoding thread's work on one file, a step at a time."""

    ticket: int
    blocks: list[int]
    step: int = 0
    said: list[object] = field(default_factory=list)

    def done(self) -> bool:
        return self.step > 2 * len(self.blocks) + 1

    def may_go_on(self, reorder: Reorder) -> bool:
        """Whether the next step would not wait."""
        reserves = self.step % 2 == 1 and self.step < 2 * len(self.blocks) + 1
        return not reserves or reorder._may_take(self.ticket, self.blocks[self.step // 2])

    def go_on(self, reorder: Reorder) -> None:
        block, kind = divmod(self.step - 1, 2)
        if self.step == 0:
            self._say(reorder, Opened(str(self.ticket), {}))
        elif block == len(self.blocks):
            self._say(reorder, Decoded({"/data": str(self.ticket)}))
        elif kind == 0:
            reorder.reserve(self.ticket, self.blocks[block])
        else:
            self._say(reorder, Block(f"/{block}", np.zeros(self.blocks[block], "u1")))
        self.step += 1

    def _say(self, reorder: Reorder, message: object) -> None:
        self.said.append(message)
        reorder.put(self.ticket, message)


FILES = st.lists(st.lists(st.integers(0, BOUND // 2), max_size=5), min_size=1, max_size=7)


@given(
    files=FILES,
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    enough=st.integers(1, 2 * BOUND),
)
@settings(max_examples=150, deadline=None)
def test_any_interleaving_gives_the_files_in_order_within_the_bound(
    files: list[list[int]], workers: int, seed: int, enough: int
) -> None:
    choices = Random(seed)
    reorder = Reorder(BOUND, enough)
    waiting = [Decoding(ticket, blocks) for ticket, blocks in enumerate(files)]
    everything, at_work, taken = list(waiting), [], []

    while waiting or at_work or len(taken) < sum(2 + len(f) for f in files):
        while waiting and len(at_work) < workers:
            at_work.append(waiting.pop(0))
        able = [d for d in at_work if d.may_go_on(reorder)]
        takes = not able or choices.random() < 0.3
        if takes:
            got = reorder.take(0)
            # Nobody can go on and nothing can be taken: that is a deadlock.
            assert got is not None or able
            if got is not None:
                taken.append(got)
                if isinstance(got[1], Block):
                    reorder.written(got[0], got[1].rows.nbytes)
        else:
            decoding = choices.choice(able)
            decoding.go_on(reorder)
            if decoding.done():
                at_work.remove(decoding)
        assert 0 <= reorder._in_flight <= BOUND

    assert [ticket for ticket, _ in taken] == sorted(ticket for ticket, _ in taken)
    for decoding in everything:
        said = [message for ticket, message in taken if ticket == decoding.ticket]
        assert [id(m) for m in said] == [id(m) for m in decoding.said]
        assert [isinstance(m, Ending) for m in said] == [False] * (len(said) - 1) + [True]
    assert reorder._in_flight == 0
    assert not reorder._held
    assert not reorder._said
