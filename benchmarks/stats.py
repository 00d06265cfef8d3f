"""Many measurements, in few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, and how far they reach."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        middle, low, high = (digits(v) for v in (self.median, self.low, self.high))
        return middle if low == high else f"{middle} ({low}-{high})"

    def rounded(self) -> dict[str, float]:
        """For JSON."""
        return {name: significant(getattr(self, name)) for name in ("median", "low", "high")}


def digits(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def significant(value: float) -> float:
    """Rounded to four digits that count."""
    return float(f"{value:.4g}")


def latencies_ms(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The percentiles that tell a latency."""
    ms = np.asarray(seconds) * 1e3
    return {
        "p50_ms": significant(float(np.percentile(ms, 50))),
        "p99_ms": significant(float(np.percentile(ms, 99))),
        "max_ms": significant(float(ms.max())),
    }
