"""The log as a process writes it: lines on standard output, rendered here and written elsewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def lines_of(script, *, level="info", style="json"):
    preamble = f"from gatewaysite.logs import configure_logging; configure_logging({level!r}, {style!r})\n"
    code = preamble + "import structlog, logging\nlog = structlog.get_logger()\n" + script
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_it_writes_a_line_of_json_with_level_and_time():
    (line,) = lines_of('log.info("request", status=200, key="sk-gw-abc")')
    record = json.loads(line)
    assert STAMP.fullmatch(record.pop("timestamp"))
    assert record == {"event": "request", "level": "info", "status": 200, "key": "sk-gw-abc"}


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_it_writes_nothing_below_its_level(level, told):
    script = 'for name in ("debug", "info", "warning", "error"): getattr(log, name)("x")'
    assert [json.loads(line)["level"] for line in lines_of(script, level=level)] == told


def test_it_writes_the_trace_of_an_exception():
    (line,) = lines_of('try:\n  1 / 0\nexcept ZeroDivisionError:\n  log.exception("panic")')
    record = json.loads(line)
    assert record["level"] == "error"
    assert "ZeroDivisionError: division by zero" in record["exception"]


def test_it_writes_what_json_has_no_word_for():
    (line,) = lines_of('import pathlib; log.info("x", path=pathlib.Path("a"))')
    assert json.loads(line)["path"] == "a"


def test_it_takes_the_standard_librarys_records_along():
    (line,) = lines_of('logging.getLogger("django.request").warning("gone: %s", "x")')
    record = json.loads(line)
    assert (record["logger"], record["level"], record["event"]) == ("django.request", "warning", "gone: x")


def test_it_loses_no_line_when_the_process_ends():
    lines = lines_of('for number in range(5000): log.info("x", number=number)')
    assert [json.loads(line)["number"] for line in lines] == list(range(5000))


def test_it_writes_for_people_in_the_console_style():
    (line,) = lines_of('log.info("request", status=200)', style="console")
    assert "request" in line
    assert "status=200" in line


def test_a_forked_process_writes_its_own_lines_and_no_other():
    lines = lines_of(
        "import os, sys\n"
        'log.info("before")\n'
        "child = os.fork()\n"
        'log.info("child" if not child else "parent")\n'
        "if child: os.waitpid(child, 0)"
    )
    assert sorted(json.loads(line)["event"] for line in lines) == ["before", "child", "parent"]
