"""GCRA, the leaky bucket as one number: the theoretical arrival time (TAT) of the next request.

A limit of n per w seconds lets n through at once from rest and then one every w/n seconds. One float
per key, no timers.
"""


def decide(tat: float, *, now: float, amount: int, window_s: float) -> tuple[float, float]:
    """Return (new TAT, 0) when let through, else (unchanged TAT, seconds to wait)."""
    interval = window_s / amount
    start = max(tat, now)
    wait_s = start - now - (window_s - interval)
    if wait_s > 1e-9:
        return tat, wait_s
    return start + interval, 0.0
