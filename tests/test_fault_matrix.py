"""The fault matrix: every failure of a vendor's, through a served gateway, as the design's table has it.

{faults} x {JSON, stream} x {OpenAI in, Anthropic in, Anthropic in and OpenAI out} x {one target, two}: what
the client gets, how often which vendor is asked, what the breaker takes it for, and what is recorded. All of
it is measured once; each test looks at one fault or one promise. docs/reliability.md shows the table.
"""

import json
import os
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests import fault_table
from tests.fault_bodies import CONTENT_TYPES, bodies
from tests.fault_cells import SPARE, Answered, Cell, all_cells, ask, case_of, configuration
from tests.fault_matrix import (
    ANTHROPIC_TYPES,
    FAULTS,
    OPENAI_TYPES,
    OWN_CODE,
    RESCUED_TEXT,
    RESPONSE_LIMIT,
    WHOLE_TEXT,
    Fault,
    Outcome,
    expected_table,
)
from tests.gateway import Gateway, running_gateway
from tests.records import rows
from tests.servers import eventually
from tests.sizes import at_full_size, sized
from tests.upstream import TEAM_KEY, FakeVendor, bearer, fake_vendor

AT_ONCE = 32
ROUNDS = sized("rounds of the fault matrix", 1, full=5)
REWRITE = "GATEWAY_WRITE_DOCS"
# A breaker that counts and never opens: the failures of one cell are seen, and hinder none of its attempts.
ENVIRONMENT: Mapping[str, str] = {
    "CACHE_MODE": "none",
    "CB_ERROR_THRESHOLD": "1000",
    "CB_TIME_WINDOW": "600s",
    "LOG_LEVEL": "warning",
    "MAX_RESPONSE_BYTES": RESPONSE_LIMIT,
}

pytestmark = [pytest.mark.conformance, *at_full_size(240)]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=[fault.slug for fault in FAULTS])


@dataclass(frozen=True)
class Measured:
    """One cell, as the client, the vendor and the database saw it."""

    answered: Answered
    asked: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]

    @property
    def cell(self) -> Cell:
        return self.answered.cell

    @property
    def record(self) -> Mapping[str, Any]:
        (record,) = self.records
        return record

    @property
    def attempts(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = json.loads(self.record["attempts"])
        return made

    @property
    def expected(self) -> Outcome:
        return self.cell.fault.answer(stream=self.cell.stream, targets=self.cell.targets)

    @property
    def is_rescued(self) -> bool:
        """Has the second target answered?"""
        return self.expected.status == 200 and self.expected.attempts == 2

    @property
    def outcome(self) -> Outcome:
        answered, code = self.answered, self.record["error_code"]
        begun = answered.is_stream and answered.envelope is not None
        return Outcome(
            status=self.record["status"] if begun else answered.status,
            code=code if OWN_CODE.fullmatch(code) else "",
            attempts=int(answered.headers["x-gateway-attempts"]),
            breaker=answered.breaker,
            begun=begun,
            retry_after=answered.headers.get("retry-after", ""),
        )


@pytest.fixture(scope="module", params=range(1, ROUNDS + 1))
def matrix() -> list[Measured]:
    cells = all_cells()
    with fake_vendor() as vendor, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and nobody listens: the port stays ours, and refuses
        teach(vendor)
        refused_url = f"http://127.0.0.1:{refusing.getsockname()[1]}"
        files = configuration(cells, vendor_url=vendor.url, refused_url=refused_url)
        with running_gateway(ENVIRONMENT, files=files) as gateway:
            return measure(cells, gateway, vendor)


def teach(vendor: FakeVendor) -> None:
    for name, dialect, stream, body in bodies():
        case = case_of(name, dialect, stream=stream)
        vendor.learn(case, provider=dialect, status=200, body=body, content_type=CONTENT_TYPES[stream])


def measure(cells: Sequence[Cell], gateway: Gateway, vendor: FakeVendor) -> list[Measured]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    with (
        httpx.Client(base_url=gateway.url, headers=bearer(TEAM_KEY), timeout=120, limits=limits) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        answers = list(pool.map(lambda cell: ask(cell, client), cells))
    asked: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in vendor.everything():
        if isinstance(entry["body"], dict):
            asked[entry["opts"].get("tag", "")].append(entry)
    recorded = defaultdict(list)
    for record in all_records(gateway, cells):
        recorded[record["request_id"]].append(record)
    return [Measured(each, asked[each.cell.id], recorded[each.cell.id]) for each in answers]


def all_records(gateway: Gateway, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    count = "SELECT COUNT(DISTINCT request_id) AS n FROM analytics_requestlog"
    eventually(lambda: rows(gateway, count)[0]["n"] >= len(cells), within_s=60, what="a row for each request")
    return rows(gateway, "SELECT * FROM analytics_requestlog")


def of(matrix: Sequence[Measured], fault: Fault) -> list[Measured]:
    return [each for each in matrix if each.cell.fault is fault]


@each_fault
def test_it_answers_a_fault_as_the_design_says(matrix: list[Measured], fault: Fault) -> None:
    measured = {each.cell.id: each.outcome for each in of(matrix, fault)}
    assert measured == {each.cell.id: each.expected for each in of(matrix, fault)}


@each_fault
def test_it_tells_the_failure_in_the_clients_own_envelope(matrix: list[Measured], fault: Fault) -> None:
    for each in of(matrix, fault):
        envelope, expected = each.answered.envelope, each.expected
        if expected.status == 200:
            assert envelope is None, each.cell
            continue
        assert envelope is not None, each.cell
        error = envelope["error"]
        assert fault.vendor_words in error["message"], each.cell
        if each.cell.door.speaks_anthropic:
            assert set(envelope) == {"type", "error", "request_id"}, each.cell
            assert (envelope["type"], envelope["request_id"]) == ("error", each.cell.id)
            assert error == {"type": ANTHROPIC_TYPES[expected.status], "message": error["message"]}, each.cell
        else:
            assert set(envelope) == {"error"}, each.cell
            assert set(error) == {"message", "type", "param", "code"}, each.cell
            assert error["type"] == OPENAI_TYPES.get(expected.status, error["type"]), each.cell
            assert each.record["error_code"] == (error["code"] or error["type"]), each.cell


@each_fault
def test_it_ends_no_answer_as_whole_that_is_not(matrix: list[Measured], fault: Fault) -> None:
    for each in of(matrix, fault):
        answered, expected = each.answered, each.expected
        whole = expected.status == 200
        assert answered.is_stream == (each.cell.stream and (whole or expected.begun)), each.cell
        assert answered.ends == (whole and each.cell.stream), each.cell
        assert answered.finished == whole, each.cell
        if whole:
            assert answered.text == (RESCUED_TEXT if each.is_rescued else WHOLE_TEXT), each.cell
        else:
            assert bool(answered.text) == expected.begun, each.cell


@each_fault
def test_it_asks_the_vendor_as_often_as_it_says(matrix: list[Measured], fault: Fault) -> None:
    for each in of(matrix, fault):
        of_its_own = each.expected.attempts - each.is_rescued
        providers = [each.cell.id] * of_its_own + [SPARE] * each.is_rescued
        assert [attempt["provider"] for attempt in each.attempts] == providers, each.cell
        assert len(each.asked) == (0 if fault.vendor == "refused" else of_its_own), each.cell


@each_fault
def test_it_records_each_request_once_with_its_end(matrix: list[Measured], fault: Fault) -> None:
    for each in of(matrix, fault):
        (record,) = each.records
        expected, whole = each.expected, each.expected.status == 200
        assert record["status"] == expected.status, each.cell
        assert record["outcome"] == ("ok" if whole else "error"), each.cell
        assert bool(record["error_code"]) == (not whole), each.cell
        assert record["stream"] == each.cell.stream, each.cell
        outcomes = [attempt["outcome"] for attempt in each.attempts]
        assert [outcome == "ok" for outcome in outcomes] == [*[False] * (expected.attempts - 1), whole], (
            each.cell
        )
        assert "" not in outcomes, each.cell


@each_fault
def test_it_books_what_the_vendor_counted_or_had_produced(matrix: list[Measured], fault: Fault) -> None:
    for each in of(matrix, fault):
        assert_usage(each, each.record)


def assert_usage(each: Measured, record: Mapping[str, Any]) -> None:
    expected = each.expected
    if expected.status == 200:
        assert not record["usage_estimated"], each.cell
        assert record["completion_tokens"] == len(each.answered.text.split()), each.cell
    elif expected.begun:
        assert record["usage_estimated"], each.cell
        assert record["completion_tokens"] > 0, each.cell
    else:
        assert record["completion_tokens"] is None, each.cell


def test_it_keeps_the_breaker_of_the_target_that_rescues_closed(matrix: list[Measured]) -> None:
    assert {each.answered.rescuer_breaker for each in matrix} == {""}


def test_it_shows_the_matrix_as_it_is(matrix: list[Measured]) -> None:
    outcomes: dict[tuple[str, bool, int], set[Outcome]] = defaultdict(set)
    for each in matrix:
        outcomes[each.cell.fault.name, each.cell.stream, each.cell.targets].add(each.outcome)
    apart = {cell: found for cell, found in outcomes.items() if len(found) > 1}
    assert not apart, "clients of OpenAI's and Anthropic's are told different things"
    table = {cell: found.pop() for cell, found in outcomes.items()}
    if os.environ.get(REWRITE):
        fault_table.write(table)
    shown = f"docs/{fault_table.PAGE.name} shows another table than was measured: `make reliability`"
    assert fault_table.written() == fault_table.rendered(table), shown


def test_it_expects_what_the_page_shows() -> None:
    """Without a gateway: the page and the expectations are one."""
    assert fault_table.written() == fault_table.rendered(expected_table())
