"""Hand files in, and know when their rows are durable. What is called durable is in the ledger."""

from __future__ import annotations

from ingestd.handin.outcome import NotDurable, Outcome
from ingestd.handin.putting import put

__all__ = ["NotDurable", "Outcome", "put"]
