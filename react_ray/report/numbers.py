"""Formats the numbers of the report: points, differences, intervals, bytes and times."""

from __future__ import annotations

from react_ray.report.intervals import Gain


def points(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def gain_points(fraction: float) -> str:
    """Formats a difference with a sign (a true minus); a change that rounds to zero has none."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def interval(gain: Gain) -> str:
    """Formats the bounds of an interval: [0.7, 6.0]."""
    low, high = (f"{100 * bound:.1f}".replace("-0.0", "0.0").replace("-", "−") for bound in (gain.low, gain.high))
    return f"[{low}, {high}]"


def gain_interval(gain: Gain) -> str:
    """Formats a difference and its interval: +3.4 [0.7, 6.0]."""
    return f"{gain_points(gain.value)} {interval(gain)}"


def probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
