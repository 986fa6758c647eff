"""What is measured: each function takes the Bench and returns its rows of the table.

Throughput is a ratio of two servers that are loaded in turns within seconds of each other; the
median over the rounds is the figure. `by CPU` is the same ratio from the processor time that the
servers used per request, in the round of each that was disturbed least: on a machine with other work
it is the one to believe.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from bench import processes, translation
from bench.load import Sample, Shape, drive, middle
from bench.processes import CannotMeasure, Server
from bench.streams import Held, hold
from bench.table import Row

CACHE_IS_FULL_AFTER = 40_000  # requests; 16 MiB of answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How long and how often: rounds of `round_s` seconds, request counts, streams held for `held_s`."""

    round_s: float
    rounds: int
    settled_requests: int
    all_requests: int
    streams: int
    held_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all measures share: where processes live, the fake vendor's base URL, the bare lane."""

    home: Path
    prepared: Path
    upstream_url: str
    bare: Server
    sizes: Sizes

    @property
    def upstream(self) -> str:
        """Return the vendor's origin."""
        return self.upstream_url.removesuffix("/v1")

    @contextlib.contextmanager
    def full(
        self, name: str, env: Mapping[str, str] | None = None, *, shipper: bool = False
    ) -> Iterator[Server]:
        """Serve the gateway, warmed up."""
        with processes.gateway(self.home, self.prepared, name=name, shipper=shipper, env=env) as server:
            warm_up(server)
            yield server

    def in_turns(self, loads: Mapping[str, tuple[Server, Shape]]) -> dict[str, list[Sample]]:
        """Load each server for a round, in turns, so that all see the same machine."""
        samples: dict[str, list[Sample]] = {name: [] for name in loads}
        for _ in range(self.sizes.rounds):
            for name, (server, shape) in loads.items():
                samples[name].append(drive(server.url, shape, seconds=self.sizes.round_s, server=server))
                server.drop_records()
        return samples


def warm_up(server: Server) -> None:
    """Send what will be measured, so that nothing happens for the first time later."""
    for stream in (False, True):
        drive(server.url, Shape(connections=8, stream=stream), seconds=1, server=server)


def limits(bench: Bench) -> Iterator[Row]:
    """Show that the vendor and the load generator are not what limits the rest."""
    for what, shape in (
        ("JSON, 64 connections", Shape(connections=64)),
        ("SSE, 32 connections", Shape(connections=32, stream=True)),
    ):
        sample = drive(bench.upstream, shape, seconds=bench.sizes.round_s)
        yield Row(
            what=f"fake vendor and wrk alone: {what}",
            measured=_speed(sample),
            figures={"direct": sample.to_json()},
        )


def client(bench: Bench) -> Iterator[Row]:
    """Show what the gateway's own HTTP client gains over the one of the bare lane."""
    with processes.bare(bench.home, bench.upstream_url, own_client=True) as own:
        warm_up(own)
        for what, shape in (
            ("JSON, 64 connections", Shape(connections=64)),
            ("SSE, 32 connections", Shape(connections=32, stream=True)),
        ):
            samples = bench.in_turns({"bare": (bench.bare, shape), "full": (own, shape)})
            yield compared(f"bare lane with the gateway's client: {what}", samples, at_least=None)


def throughput(bench: Bench) -> Iterator[Row]:
    """Measure JSON, streams and cache hits against the bare lane."""
    bare = bench.bare
    with bench.full("throughput") as full:
        for connections in (64, 10):
            shape = Shape(connections=connections)
            samples = bench.in_turns({"bare": (bare, shape), "full": (full, shape)})
            yield compared(f"JSON, {connections} connections", samples, at_least=0.65)
        yield from _alone(bench, full)
        shape = Shape(connections=32, stream=True)
        samples = bench.in_turns({"bare": (bare, shape), "full": (full, shape)})
        yield compared("SSE, 50 chunks, 32 connections", samples, at_least=0.65)
        shape = replace(shape, model="bench-paced")
        samples = bench.in_turns({"bare": (bare, shape), "full": (full, shape)})
        yield compared("SSE, a chunk each 5 ms, 32 connections", samples, at_least=0.65, paced=True)
        miss, hit = Shape(connections=64), Shape(connections=64, unique=False)
        samples = bench.in_turns({"bare": (bare, miss), "full": (full, hit)})
        yield compared("cache hit, 64 connections", samples, at_least=2.0)


def translated(bench: Bench) -> Iterator[Row]:
    """Measure streams that are translated: an Anthropic vendor, an OpenAI client."""
    reference = Shape(connections=32, stream=True)
    with bench.full("translated") as full:
        loads = {"bare": (bench.bare, reference), "full": (full, replace(reference, model="bench-claude"))}
        samples = bench.in_turns(loads)
    yield compared("translated SSE, 50 chunks, 32 connections", samples, at_least=0.45)
    per_chunk_us = translation.chunk_us()
    yield Row(
        what="time to translate a chunk: decode and write",
        measured=f"{per_chunk_us:.1f} us",
        figures={"us": per_chunk_us},
    )


def _alone(bench: Bench, full: Server) -> Iterator[Row]:
    shape = Shape(connections=1)
    direct = drive(bench.upstream, shape, seconds=1)
    samples = bench.in_turns({"bare": (bench.bare, shape), "full": (full, shape)})
    reference, measured = middle(samples["bare"]), middle(samples["full"])
    slower = measured.p50_ms / reference.p50_ms
    yield Row(
        what="JSON, 1 connection, p50",
        reference=f"{reference.p50_ms:.3f} ms",
        measured=f"{measured.p50_ms:.3f} ms",
        ratio=f"{slower:.2f} x",
        by_cpu=f"{_least(samples['full']) / _least(samples['bare']):.2f} x",
        target="<= 1.5 x",
        met=_no_errors(samples) and slower <= 1.5,
        figures=_figures(samples),
    )
    yield Row(
        what="JSON, 1 connection, p50 added to a direct call",
        reference=f"{direct.p50_ms:.3f} ms direct",
        measured=f"+{measured.p50_ms - direct.p50_ms:.3f} ms",
        figures={"direct": direct.to_json()},
    )


def shipper(bench: Bench) -> Iterator[Row]:
    """Measure with the shipper running too: all the processes of an installation."""
    shape = Shape(connections=64)
    with bench.full("shipped", shipper=True) as full:
        rounds = {"bare": (bench.bare, shape), "full": (full, shape)}
        yield compared("JSON, 64 connections, shipper running", bench.in_turns(rounds), at_least=None)


def redis(bench: Bench) -> Iterator[Row]:
    """Measure the Redis store, and two workers against one."""
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(processes.redis(bench.home))
        except CannotMeasure as problem:
            yield Row(what="Redis store", measured=str(problem))
            return
        env = {"REDIS_URL": url, "CACHE_MODE": "redis"}
        one = stack.enter_context(bench.full("one", env))
        two = stack.enter_context(bench.full("two", {**env, "WORKERS": "2"}))
        shape = Shape(connections=64)
        rounds = {"bare": (bench.bare, shape), "full": (one, shape), "two": (two, shape)}
        samples = bench.in_turns(rounds)
        yield compared("Redis store, JSON, 64 connections", samples, at_least=0.45)
        yield _two_workers(samples["full"], samples["two"])


def _two_workers(one: list[Sample], two: list[Sample]) -> Row:
    ratio = median(after.per_s / before.per_s for before, after in zip(one, two, strict=True))
    # With a processor for each worker, the busiest one is the limit.
    possible = _least(one) / min(sample.busiest_us for sample in two)
    return Row(
        what="two workers against one, Redis store",
        reference=_speed(middle(one)),
        measured=_speed(middle(two)),
        ratio=f"{ratio:.2f} x",
        by_cpu=f"{possible:.2f} x",
        target=">= 1.7 x",
        met=_no_errors({"one": one, "two": two}) and max(ratio, possible) >= 1.7,
        figures=_figures({"one": one, "two": two}),
    )


def memory(bench: Bench) -> Iterator[Row]:
    """Measure a worker's memory from its start on, and its growth."""
    sizes = bench.sizes
    with processes.gateway(bench.home, bench.prepared, name="memory") as full:
        shape = Shape(connections=64)
        drive(full.url, replace(shape, connections=1), seconds=1, server=full)
        start_mb, settled_mb = full.rss_mb(), 0.0
        served = settled = 0
        while served < sizes.all_requests:
            served += drive(full.url, shape, seconds=sizes.round_s, server=full).requests
            full.drop_records()
            if not settled_mb and served >= sizes.settled_requests:
                settled_mb, settled = full.rss_mb(), served
        end_mb = full.rss_mb()
    yield Row(
        what="memory of a worker after its start",
        measured=f"{start_mb:.1f} MB",
        target="<= 150 MB",
        met=start_mb <= 150,
        figures={"mb": start_mb, "start_s": full.started_s},
    )
    yield Row(
        what=f"memory after {settled:,} and {served:,} requests",
        reference=f"{settled_mb:.1f} MB",
        measured=f"{end_mb:.1f} MB",
        ratio=f"{end_mb - settled_mb:+.1f} MB",
        target="no growth",
        # Until then the cache fills. An allocator breathes: a leak of 30 bytes a request is more than this.
        met=end_mb <= 150 and end_mb - settled_mb <= 4.0 if settled >= CACHE_IS_FULL_AFTER else None,
        figures={"settled_mb": settled_mb, "end_mb": end_mb, "settled": settled, "served": served},
    )


def idle_streams(bench: Bench) -> Iterator[Row]:
    """Measure the memory of open streams."""
    reference = hold(bench.bare, bench.sizes.streams)
    with bench.full("streams") as full:
        measured = hold(full, bench.sizes.streams)
    yield Row(
        what=f"{measured.opened:,} idle streams, memory each",
        reference=f"{reference.kb_per_stream:.1f} KB",
        measured=f"{measured.kb_per_stream:.1f} KB",
        ratio=f"{measured.kb_per_stream / max(reference.kb_per_stream, 0.1):.2f} x",
        target="<= 100 KB",
        met=measured.kb_per_stream <= 100,
        figures={"bare": _held(reference), "full": _held(measured)},
    )


def compared(
    what: str, samples: Mapping[str, list[Sample]], *, at_least: float | None, paced: bool = False
) -> Row:
    """Return how the rounds of "full" compare with those of "bare"; `at_least`: the share to reach."""
    pairs = list(zip(samples["bare"], samples["full"], strict=True))
    ratio = median(full.per_s / bare.per_s for bare, full in pairs)
    by_cpu = _least(samples["bare"]) / _least(samples["full"])
    # Paced streams load no server fully: there the processor time is the figure.
    judged = by_cpu if paced else ratio
    return Row(
        what=what,
        reference=_speed(middle(samples["bare"])),
        measured=_speed(middle(samples["full"])),
        ratio=_share(ratio),
        by_cpu=_share(by_cpu),
        target="" if at_least is None else f">= {_share(at_least)}",
        met=None if at_least is None else _no_errors(samples) and judged >= at_least,
        figures=_figures(samples),
    )


def _least(samples: list[Sample]) -> float:
    return min(sample.cpu_us for sample in samples)


def _share(ratio: float) -> str:
    return f"{ratio:.2f} x" if ratio >= 1.5 else f"{ratio:.0%}"


def _speed(sample: Sample) -> str:
    errors = f", {sample.errors} ERRORS" if sample.errors else ""
    return f"{sample.per_s:,.0f}/s p99 {sample.p99_ms:.1f} ms{errors}"


def _no_errors(samples: Mapping[str, list[Sample]]) -> bool:
    return not any(sample.errors for listed in samples.values() for sample in listed)


def _figures(samples: Mapping[str, list[Sample]]) -> dict[str, object]:
    return {
        name: {**middle(listed).to_json(), "rounds": [sample.to_json() for sample in listed]}
        for name, listed in samples.items()
    }


def _held(held: Held) -> dict[str, float]:
    return {
        "opened": held.opened,
        "before_mb": held.before_mb,
        "with_streams_mb": held.with_streams_mb,
        "after_mb": held.after_mb,
        "kb_per_stream": held.kb_per_stream,
    }


def admission(bench: Bench) -> Iterator[Row]:
    """Measure what admission and settlement cost a worker, on both stores."""
    command = [sys.executable, "-m", "bench.admitting"]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(CannotMeasure):
            command.append(stack.enter_context(processes.redis(bench.home)))
        printed = processes.run("admitting", command, env=processes.environment(bench.prepared))
    for store, found in json.loads(printed).items():
        told = ", ".join(f"{spent:.0f} us at {at_a_time} a time" for at_a_time, spent in found.items())
        yield Row(what=f"admission and settlement, {store}", measured=told, figures={store: found})
