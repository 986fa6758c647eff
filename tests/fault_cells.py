"""One cell of the fault matrix: a provider of its own, one request, and what it was answered.

    cells = all_cells()
    files = configuration(cells, vendor_url=vendor.url, refused_url=...)
    ...serve a gateway with them...
    answered = ask(cell, client)

Each cell has a provider of its own, so that no cell's breaker, credential or connections are another's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import yaml

from tests.fault_matrix import BRIEF_S, COOLS, COUNTS, DEADLINE_S, FAULTS, RESCUED_TEXT, Fault
from tests.upstream import TEAM_KEY, UPSTREAM_KEY, data_lines

SPARE = "spare"
VENDOR_PATHS: Mapping[str, str] = {"openai": "/openai/v1", "anthropic": "/anthropic"}


@dataclass(frozen=True, slots=True)
class Door:
    """How a request comes in, and which dialect its first target speaks."""

    name: str
    path: str
    dialect: str

    @property
    def speaks_anthropic(self) -> bool:
        """Is the client one of Anthropic's?"""
        return self.path == "/v1/messages"


DOORS = (
    Door("openai", "/v1/chat/completions", "openai"),
    Door("anthropic", "/v1/messages", "anthropic"),
    Door("translated", "/v1/messages", "openai"),
)


@dataclass(frozen=True, repr=False)
class Cell:
    """One request of the matrix."""

    fault: Fault
    door: Door
    stream: bool
    targets: int

    @cached_property
    def id(self) -> str:
        """Names its provider, its route, its request and what the vendor logs of it."""
        form = "stream" if self.stream else "json"
        return f"{self.fault.slug}-{self.door.name}-{form}-{self.targets}"

    @cached_property
    def vendor_model(self) -> str:
        """The model that the first target is asked for: its name is the fault."""
        fault = self.fault.stream if self.stream else self.fault.json
        if fault and not fault.startswith("~"):
            name, tilde, options = fault.partition("~")
            case = case_of(name, self.door.dialect, stream=self.stream)
            return f"{case}{tilde}{options}~tag={self.id}"
        return f"synthetic~tokens=30{fault}~tag={self.id}"

    @property
    def model(self) -> str:
        """What the client asks for: the provider's model, or the route of two targets."""
        return f"{self.id}/{self.vendor_model}" if self.targets == 1 else self.id

    def __repr__(self) -> str:
        """Name it in a failed test."""
        return self.id


def all_cells() -> tuple[Cell, ...]:
    """Return the whole matrix; those that take longest come first."""
    cells = [
        Cell(fault, door, stream, targets)
        for fault in FAULTS
        for door in DOORS
        for stream in (False, True)
        for targets in (1, 2)
    ]
    return tuple(
        sorted(cells, key=lambda cell: "Retry-After" not in cell.fault.name and not cell.fault.brief)
    )


def case_of(name: str, dialect: str, *, stream: bool) -> str:
    """Return under which name the fake vendor knows an answer of tests/fault_bodies.py."""
    return f"{name}-{dialect}-{'stream' if stream else 'json'}"


# ---------------------------------------------------------------- the gateway's configuration


def configuration(cells: Sequence[Cell], *, vendor_url: str, refused_url: str) -> dict[str, str]:
    """Return the configuration files of a gateway with a provider, and where needed a route, per cell."""
    spare = {
        "name": SPARE,
        "dialect": "openai",
        "base_url": f"{vendor_url}{VENDOR_PATHS['openai']}",
        "api_key": UPSTREAM_KEY,
        "timeouts": _timeouts(),
    }
    config = {
        "version": 1,
        "providers": [spare, *(_provider(cell, vendor_url, refused_url) for cell in cells)],
        "routes": [_route(cell) for cell in cells if cell.targets == 2],
        "tenants": [{"name": "team"}],
        "keys": [{"name": "team-key", "tenant": "team", "secret": TEAM_KEY}],
    }
    return {"config.yaml": yaml.safe_dump(config)}


def _provider(cell: Cell, vendor_url: str, refused_url: str) -> dict[str, Any]:
    url = refused_url if cell.fault.vendor == "refused" else vendor_url
    brief = cell.fault.brief and {cell.fault.brief if cell.stream else "total": BRIEF_S}
    return {
        "name": cell.id,
        "dialect": cell.door.dialect,
        "base_url": f"{url}{VENDOR_PATHS[cell.door.dialect]}",
        "api_key": UPSTREAM_KEY,
        "timeouts": {**_timeouts(), **(brief or {})},
    }


def _timeouts() -> dict[str, float]:
    # Long: on a busy machine none of them fires that is not meant to.
    return {"connect": DEADLINE_S, "first_content": DEADLINE_S, "idle": DEADLINE_S, "total": DEADLINE_S}


def _route(cell: Cell) -> dict[str, Any]:
    rescue = f"synthetic~text={RESCUED_TEXT.replace(' ', '%20')}"
    targets = [{"provider": cell.id, "model": cell.vendor_model}, {"provider": SPARE, "model": rescue}]
    return {"match": cell.id, "kind": "exact", "targets": targets}


# ---------------------------------------------------------------- the request


@dataclass(frozen=True)
class Answered:
    """What the client got, and what /health said of the cell's provider right afterwards."""

    cell: Cell
    status: int
    headers: httpx.Headers
    body: str
    breaker: str
    rescuer_breaker: str

    @property
    def is_stream(self) -> bool:
        """Is it a stream that has begun?"""
        return self.headers["content-type"].startswith("text/event-stream")

    @cached_property
    def parts(self) -> list[dict[str, Any]]:
        """The JSON values of the answer: one, or one per event."""
        if not self.is_stream:
            return [json.loads(self.body)]
        return [json.loads(line) for line in data_lines(self.body.splitlines()) if line != "[DONE]"]

    @property
    def envelope(self) -> dict[str, Any] | None:
        """The error's envelope, which must be the last thing that is said."""
        errors = [part for part in self.parts if part.get("error")]
        assert errors in ([], self.parts[-1:]), self.body
        return errors[0] if errors else None

    @property
    def ends(self) -> int:
        """How often the stream says that it is whole."""
        lines = self.body.splitlines()
        return lines.count("event: message_stop" if self.cell.door.speaks_anthropic else "data: [DONE]")

    @property
    def finished(self) -> bool:
        """Does the answer give a reason why it ended?"""
        return any(reason for part in self.parts for reason in _finish_reasons(part))

    @property
    def text(self) -> str:
        """What the model has said."""
        return "".join(text for part in self.parts for text in _texts(part))


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    for choice in part.get("choices") or []:
        yield (choice.get("delta") or choice.get("message") or {}).get("content") or ""
    for block in part.get("content") or []:
        yield block.get("text") or ""
    if part.get("type") == "content_block_delta":
        yield part["delta"].get("text") or ""


def _finish_reasons(part: Mapping[str, Any]) -> Iterator[str | None]:
    for choice in part.get("choices") or []:
        yield choice.get("finish_reason")
    yield part.get("stop_reason")
    yield (part.get("delta") or {}).get("stop_reason")


def ask(cell: Cell, client: httpx.Client) -> Answered:
    """Send the cell's request, read the answer to its end, and look at the breaker."""
    body = {
        "model": cell.model,
        "messages": [{"role": "user", "content": "Hello there"}],
        "max_tokens": 100_000,
        "stream": cell.stream,
    }
    response = client.post(cell.door.path, json=body, headers={"x-request-id": cell.id})
    health = client.get("/health").json()
    return Answered(
        cell,
        response.status_code,
        response.headers,
        response.text,
        breaker=breaker_of(health, cell.id),
        rescuer_breaker=breaker_of(health, SPARE),
    )


def breaker_of(health: Mapping[str, Any], provider: str) -> str:
    """Return what the failures of a provider have been to its breaker: COUNTS, COOLS or nothing."""
    state = health["providers"][provider]
    upstreams = state.get("upstreams", {}).values()
    marks = []
    if any(each["failures"] or each["state"] != "closed" for each in upstreams):
        marks.append(COUNTS)
    if state["state"] == "cooling" or any("cooling_s" in each for each in upstreams):
        marks.append(COOLS)
    return ", ".join(marks)
