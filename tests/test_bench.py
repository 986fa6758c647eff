"""The tools of `make bench` and `make soak` work. What they measure is not judged here."""

import asyncio
import http.client
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import load, processes, streams, table
from bench.__main__ import TINY, measure
from bench.load import Sample, Shape, middle
from bench.open_streams import Round
from bench.processes import CannotMeasure
from bench.soak.probe import Seen, between, largest_ms, middle_ms, until
from bench.table import Row
from tests.servers import CHECKOUT

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason=load.HOW_TO_GET_WRK)
BODY = b'{"model":"bench-fast",%s"messages":[{"role":"user","content":"Hello"}]}'


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    with processes.upstream(tmp_path) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=10)
        yield connection
        connection.close()


def test_it_answers_json_with_usage_on_a_kept_connection(upstream: http.client.HTTPConnection) -> None:
    for _ in range(2):
        upstream.request("POST", "/v1/chat/completions", BODY % b"")
        answer = json.loads(upstream.getresponse().read())
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["total_tokens"] == 92


def test_it_streams_fifty_chunks_a_finish_reason_usage_and_the_end(
    upstream: http.client.HTTPConnection,
) -> None:
    upstream.request("POST", "/v1/chat/completions", BODY % b'"stream":true,')
    stream = upstream.getresponse().read().decode()
    events = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    chunks = [json.loads(event) for event in events[:-1]]
    assert sum(chunk["choices"] != [] and "verdict" in str(chunk) for chunk in chunks) == 50
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 50
    assert events[-1] == "[DONE]"


def test_it_answers_a_request_that_arrives_in_pieces(upstream: http.client.HTTPConnection) -> None:
    body = BODY % b""
    upstream.putrequest("POST", "/v1/chat/completions")
    upstream.putheader("Content-Length", str(len(body)))
    upstream.endheaders()
    upstream.send(body[:20])
    upstream.send(body[20:])
    assert json.loads(upstream.getresponse().read())["object"] == "chat.completion"


@needs_wrk
def test_it_measures_the_gateway_against_the_bare_lane(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = measure(TINY, ["limits", "throughput", "streams", "balancing", "open"])
    printed = capsys.readouterr().out
    assert "JSON, 64 connections" in printed
    assert "ERRORS" not in printed
    assert "could not be measured" not in printed
    first = next(place for place, row in enumerate(rows) if row.what.startswith("3 limited targets"))
    compared = [row for row in rows[:first] if "full" in row.figures and "bare" in row.figures]
    assert len(compared) == 7
    for row in compared[:-1]:
        assert row.figures["full"]["errors"] == 0
        assert row.figures["full"]["requests"] > 0
    assert compared[-1].figures["full"]["opened"] == TINY.streams
    balanced, sticky, memory, *_, left = rows[first:]
    for row in (balanced, sticky):
        assert row.figures["full"]["requests"] > 0
    (held,) = memory.figures["rounds"]
    assert held["opened"] == TINY.streams
    assert held["chunks"]["min"] >= 1
    assert left.measured.startswith("0, ")


def test_it_knows_a_fair_share_from_an_unfair_one() -> None:
    def shared(*chunks: int) -> Round:
        return Round(
            opened=len(chunks),
            held_s=20,
            before_mb=100,
            open_mb=101,
            after_mb=100,
            in_flight_after=0,
            chunks=chunks,
            longest_pause_s=2,
            first_byte_ms=(1,),
            worker=0.1,
            clients=0.1,
        )

    assert shared(10, 10, 10, 10).fairness == 1
    assert shared(40, 0, 0, 0).fairness == 0.25
    assert shared(0, 0).fairness == 0
    assert shared(10, 10).kb_per_stream == 512


def test_it_opens_streams_that_share_no_call() -> None:
    assert streams.request("bench-idle") != streams.request("bench-idle")


def test_it_says_how_to_get_wrk_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CannotMeasure, match="apt-get install wrk"):
        load.require_wrk()


def test_it_reads_what_wrk_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrk").write_text("#!/bin/sh\necho out of order >&2\n")
    (tmp_path / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(CannotMeasure, match="out of order"):
        load.drive("http://127.0.0.1:9", Shape(connections=1), seconds=1)


def test_it_takes_the_middle_of_the_rounds() -> None:
    rounds = [
        Sample(requests=10, per_s=per_s, p50_ms=1, p99_ms=2, errors=errors)
        for per_s, errors in ((100.0, 0), (1.0, 1), (90.0, 0))
    ]
    taken = middle(rounds)
    assert taken.per_s == 90
    assert taken.errors == 1
    assert taken.requests == 30


def test_it_prints_and_saves_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    row = Row(what="JSON", ratio="70%", target=">= 65%", met=True, figures={"full": {"per_s": 5}})
    table.print_head()
    table.print_row(row)
    assert re.search(r"JSON .* 70% .* >= 65% +ok", capsys.readouterr().out)
    saved = table.save([row], kind="quick")
    assert json.loads(saved.read_text())["rows"][0]["full"] == {"per_s": 5}
    assert "| JSON |" in saved.with_suffix(".md").read_text()


def test_it_counts_a_delay_from_when_a_request_was_due() -> None:
    seen = [Seen(1.0, 1.0, 1.002, 200), Seen(2.0, 2.5, 2.51, 200), Seen(9.0, 9.0, 9.001, 401)]
    assert largest_ms(seen) == pytest.approx(510)
    assert middle_ms(seen) == pytest.approx(2)
    # One that was due before the window and answered inside it was delayed by what happened there.
    assert between(seen, 2.4, 3.0) == [seen[1]]


async def test_it_gives_up_on_what_does_not_happen() -> None:
    with pytest.raises(CannotMeasure, match="the change did not happen"):
        async with asyncio.timeout(5):
            await until(lambda: False, within_s=0.01, what="the change")


def test_it_changes_keys_under_traffic_and_times_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--keys", "200", "--repeats", "1", "--only", "keys"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    # The exit code follows the figures, and those belong to the machine.
    for what in ("changed by another process", "changed in the admin", "changed by one UPDATE"):
        assert re.search(rf"{what} .*\d s, [+-]\d", done.stdout), done.stdout + done.stderr
