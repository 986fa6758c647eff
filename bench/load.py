"""Drives load with wrk and reads its figures; wrk is the Debian package `wrk`."""

import json
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.processes import CannotMeasure, Cpu, Server
from bench.rows import SECRET

SCRIPT = Path(__file__).with_name("wrk") / "chat.lua"
HOW_TO_GET_WRK = (
    "wrk is not installed. Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk; "
    "source: https://github.com/wg/wrk"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is sent: how many connections, streamed or not, bodies that repeat or not."""

    connections: int
    stream: bool = False
    unique: bool = True
    model: str = "bench-fast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round.

    `cpu_us` is the server's processor time per request, which a busy machine hardly changes,
    `busiest_us` that of its busiest worker, `waited` the share of the round that event loops were
    ready to run and had no processor.
    """

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float = 0.0
    busiest_us: float = 0.0
    waited: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the saved form."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def require_wrk() -> None:
    """Raise CannotMeasure, saying how to get it, when wrk is missing."""
    if shutil.which("wrk") is None:
        raise CannotMeasure(HOW_TO_GET_WRK)


def drive(url: str, shape: Shape, *, seconds: float, server: Server | None = None) -> Sample:
    """Load `url` for some seconds. Raises CannotMeasure when wrk fails."""
    before = server.cpu() if server else Cpu(0, 0, 0)
    began = time.monotonic()
    figures = _wrk(url, shape, max(round(seconds), 1))
    elapsed_s = time.monotonic() - began
    used = (server.cpu() if server else Cpu(0, 0, 0)) - before
    requests = figures["requests"]
    return Sample(
        requests=requests,
        per_s=requests / (figures["duration_us"] / 1e6),
        p50_ms=figures["p50_us"] / 1000,
        p99_ms=figures["p99_us"] / 1000,
        errors=sum(figures[name] for name in ("connect", "read", "write", "status", "timeout")),
        cpu_us=used.used_s / max(requests, 1) * 1e6,
        busiest_us=used.busiest_s / max(requests, 1) * 1e6,
        waited=used.waited_s / elapsed_s,
    )


def middle(samples: list[Sample]) -> Sample:
    """Return the median of each figure."""
    return Sample(
        requests=sum(sample.requests for sample in samples),
        per_s=median(sample.per_s for sample in samples),
        p50_ms=median(sample.p50_ms for sample in samples),
        p99_ms=median(sample.p99_ms for sample in samples),
        errors=sum(sample.errors for sample in samples),
        cpu_us=median(sample.cpu_us for sample in samples),
        busiest_us=median(sample.busiest_us for sample in samples),
        waited=median(sample.waited for sample in samples),
    )


def _wrk(url: str, shape: Shape, seconds: int) -> dict[str, Any]:
    kind = "stream" if shape.stream else "json"
    # The salt makes the bodies of one round differ from those of every other.
    salt = f"{time.time_ns():x}" if shape.unique else "same"
    command = [
        *("wrk", "-t1", f"-c{shape.connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(SCRIPT)),
        *(f"{url}/v1/chat/completions", "--", SECRET, shape.model, kind),
        *("unique" if shape.unique else "same", salt),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    for line in done.stdout.splitlines():
        if line.startswith("FIGURES "):
            figures: dict[str, Any] = json.loads(line.removeprefix("FIGURES "))
            return figures
    raise CannotMeasure(f"wrk ended with status {done.returncode}: {done.stdout}{done.stderr}")
