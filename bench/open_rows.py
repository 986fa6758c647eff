"""The rows about open streams: what they cost, whether all get their share, what is left of them."""

from collections.abc import Iterator, Sequence
from statistics import median

from bench.measures import Bench
from bench.open_streams import Round, first_bytes_ms, hold_open
from bench.table import Row
from bench.upstream import SLOW_GAP_S

FAIR = 0.99
LARGEST_KB = 100.0
# An allocator breathes; a stream that stays behind in each round is more than this.
LARGEST_GROWTH_MB = 4.0
ENOUGH_TO_JUDGE = 1_000  # streams
# Freed memory is kept for what comes next: after so many rounds nothing is for the first time.
SETTLING = 2


def open_streams(bench: Bench) -> Iterator[Row]:
    """Measure streams of a slow vendor, all open at once, several times."""
    with bench.full("open") as full:
        first_bytes_ms(full)  # the first of their kind
        idle_ms = first_bytes_ms(full)
        rounds = []
        for _ in range(bench.sizes.rounds + (SETTLING if bench.sizes.rounds > 1 else 0)):
            rounds.append(hold_open(full, bench.sizes.streams, held_s=bench.sizes.held_s))
            full.drop_records()
    yield _memory(rounds)
    yield _shares(rounds)
    yield _pauses(rounds)
    yield _first_byte(rounds, idle_ms)
    yield _left(rounds)


def _memory(rounds: Sequence[Round]) -> Row:
    largest = max(rounds, key=lambda each: each.kb_per_stream)
    return Row(
        what=f"{largest.opened:,} open streams, memory each",
        reference=f"{rounds[0].before_mb:.1f} MB before",
        measured=f"{largest.kb_per_stream:.1f} KB",
        target=f"<= {LARGEST_KB:.0f} KB",
        met=largest.kb_per_stream <= LARGEST_KB,
        figures={"rounds": [each.to_json() for each in rounds]},
    )


def _shares(rounds: Sequence[Round]) -> Row:
    worst = min(rounds, key=lambda each: each.fairness)
    chunks = worst.chunks
    return Row(
        what="their chunks: fewest, median, most",
        reference=f"in {worst.held_s:.0f} s, {SLOW_GAP_S:g} s apart",
        measured=f"{min(chunks)}, {median(chunks):g}, {max(chunks)}",
        ratio=f"{worst.fairness:.4f}",
        target=f">= {FAIR}",
        met=worst.fairness >= FAIR,
    )


def _pauses(rounds: Sequence[Round]) -> Row:
    worker, clients = (
        median(values) for values in zip(*((r.worker, r.clients) for r in rounds), strict=True)
    )
    return Row(
        what="longest pause between two of a stream's",
        reference=f"clients {clients:.0%} of a processor",
        measured=f"{max(each.longest_pause_s for each in rounds):.3f} s, worker {worker:.0%}",
    )


def _first_byte(rounds: Sequence[Round], idle_ms: Sequence[float]) -> Row:
    busy_ms = median(wait_ms for each in rounds for wait_ms in each.first_byte_ms)
    return Row(
        what="first byte of a new stream meanwhile, p50",
        reference=f"{median(idle_ms):.2f} ms, largest {max(idle_ms):.1f}",
        measured=f"{busy_ms:.2f} ms, largest {max(max(each.first_byte_ms) for each in rounds):.1f}",
        ratio=f"{busy_ms / median(idle_ms):.2f} x",
        figures={"idle_ms": list(idle_ms)},
    )


def _left(rounds: Sequence[Round]) -> Row:
    """Nothing may be in flight any more, and once settled a round may not need more memory than another."""
    growth_mb = rounds[-1].after_mb - rounds[min(SETTLING, len(rounds) - 1)].after_mb
    in_flight = max(each.in_flight_after for each in rounds)
    judged = len(rounds) > 1 and rounds[0].opened >= ENOUGH_TO_JUDGE
    return Row(
        what=f"after each of {len(rounds)} rounds: in flight, memory",
        reference=f"{rounds[0].before_mb:.1f} MB before",
        measured=f"{in_flight:.0f}, {', '.join(f'{each.after_mb:.1f}' for each in rounds)} MB",
        ratio=f"{growth_mb:+.1f} MB",
        target="0, no growth",
        met=not in_flight and growth_mb <= LARGEST_GROWTH_MB if judged or in_flight else None,
    )
