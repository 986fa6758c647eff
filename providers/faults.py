"""How the demo provider fails on purpose, so that a failover can be rehearsed: values alone.

The columns of a provider's row are the fields below, after PREFIX. `providers.demo` plays the faults,
`proxy.demo_response` takes the time that they ask for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "fault_"
# The statuses that are answered with Retry-After: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
RETRY_STATUSES = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong with `percent` of the requests; the others are answered as ever.

    `status`: answered with an error of that status; `retry_after_s` is told with 429 and 503. `latency_ms`:
    pause before the head of any answer. `ttft_ms`: pause of a stream between its head and its first content.
    `cut_after`, `stall_after`: pieces of content after which the connection is lost, or nothing more comes
    for ever; a JSON answer breaks off in its middle. An answer with fewer pieces is whole.
    """

    percent: float = 100.0
    status: int | None = None
    retry_after_s: int | None = None
    latency_ms: int = 0
    ttft_ms: int = 0
    cut_after: int | None = None
    stall_after: int | None = None

    @property
    def on(self) -> bool:
        """Does any request fail?"""
        return self.percent > 0 and bool(_told(self))

    def strike(self, draw: float) -> bool:
        """Does a request fail that has drawn `draw`, a number from 0 to below 1?

        Each draws its own: a fixed turn (every second one) would fall in step with retries and never be seen.
        """
        return draw * 100 < self.percent

    def __str__(self) -> str:
        """Say in words what fails: "30 % of requests: status 503, Retry-After 5 s"."""
        return f"{self.percent:g} % of requests: {', '.join(_told(self))}" if self.on else "none"


COLUMNS = tuple(PREFIX + field.name for field in fields(Faults))
OFF: Mapping[str, Any] = {PREFIX + field.name: field.default for field in fields(Faults)}


def faults_of(row: Mapping[str, Any]) -> Faults:
    """Return the faults of a provider's columns; a row kept by an earlier version has none."""
    return Faults(**{name.removeprefix(PREFIX): row.get(name, default) for name, default in OFF.items()})


def _told(faults: Faults) -> list[str]:
    # In the order in which they strike.
    told = [f"{faults.latency_ms} ms before the head"] if faults.latency_ms else []
    if faults.status is not None:
        told.append(f"status {faults.status}")
        if faults.status in RETRY_STATUSES and faults.retry_after_s is not None:
            told.append(f"Retry-After {faults.retry_after_s} s")
        return told
    if faults.ttft_ms:
        told.append(f"{faults.ttft_ms} ms before the first content")
    if faults.cut_after is not None:
        told.append(f"cut after {faults.cut_after} pieces")
    if faults.stall_after is not None:
        told.append(f"silent after {faults.stall_after} pieces")
    return told
