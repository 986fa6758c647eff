"""GCRA in its leaky-bucket form, in integers: exact, with two numbers per key and no timers.

A limit of n per w lets n requests through at once from rest and then one every w/n. The bucket
fills by w with each request and leaks n per microsecond; a request passes while the bucket holds at
most w * (n - 1). Counting in n-ths of a microsecond keeps everything whole.
"""

from typing import NamedTuple


class Bucket(NamedTuple):
    """What a bucket held (n-ths of a microsecond) at `at_us` (microseconds since the epoch)."""

    held: int
    at_us: int


EMPTY = Bucket(0, 0)


def decide(bucket: Bucket, *, now_us: int, amount: int, window_us: int) -> tuple[Bucket, int]:
    """Return (the bucket afterwards, 0) when let through, else (unchanged, microseconds to wait)."""
    held, at_us = bucket
    if now_us > at_us:
        held = max(held - (now_us - at_us) * amount, 0)
        at_us = now_us
    over = held - window_us * (amount - 1)
    if over > 0:
        return bucket, -(-over // amount)
    return Bucket(held + window_us, at_us), 0
