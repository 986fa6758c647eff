import json
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from analytics.booking import book
from analytics.model_names import comparable
from analytics.models import VendorCost, VendorImport
from analytics.reconciliation import billed_days, compare, import_export
from analytics.tests.spool_files import done, opened, text
from analytics.vendor_exports import BadExport, read_export
from providers.models import Provider
from providers.usage import Usage

EXPORTS = Path(__file__).parent / "exports"
AT = 1_790_000_000.25  # 2026-09-21 14:13:20.25 UTC
DAY, DAY_S = date(2026, 9, 21), 86_400
GENERIC = "date,model,cost_usd,input_tokens,output_tokens\n"


def read(content):
    return read_export(content.encode())


def problems(content):
    with pytest.raises(BadExport) as raised:
        read(content)
    return str(raised.value)


# ---------------------------------------------------------------- reading


def test_it_reads_anthropics_export():
    export = read_export((EXPORTS / "anthropic_cost.csv").read_bytes())
    assert (export.layout, export.lines) == ("Anthropic cost export", 4)
    assert [(str(cost.day), cost.model, cost.cost_nanousd) for cost in export.costs] == [
        ("2026-09-21", "(web_search)", 30_000_000),
        ("2026-09-21", "Claude Haiku 4.5", 175_000_000),
        ("2026-09-21", "Claude Sonnet 4.5", 1_500_000_000),
    ]


def test_it_reads_openais_export():
    export = read_export((EXPORTS / "openai_cost.csv").read_bytes())
    assert export.layout == "OpenAI cost export"
    assert [(str(cost.day), cost.model, cost.cost_nanousd) for cost in export.costs] == [
        ("2026-09-21", "gpt-4o-2024-08-06", 40_000),
        ("2026-09-22", "gpt-4o-mini-2024-07-18", 1_000_000),
    ]


@pytest.mark.parametrize(
    "content",
    [
        GENERIC + "2026-09-21,gpt-4o,1.5,10,2\n",
        "\ufeff" + GENERIC.replace(",", ";") + "2026-09-21;gpt-4o;1.5;10;2\r\n\r\n",
        " Model \tDAY\tcost\tinput_tokens\toutput_tokens\tnote\ngpt-4o\t2026-09-21\t$1.5\t10\t2\tx\n",
        GENERIC + "2026-09-21T23:59:59Z,gpt-4o,1,4,\n2026-09-22T01:00:00+02:00,gpt-4o,0.5,6,2\n",
    ],
)
def test_it_reads_the_generic_form(content):
    (cost,) = read(content).costs
    assert cost == (DAY, "gpt-4o", 1_500_000_000, 10, 2)


def test_a_sum_is_rounded_once():
    third = "0." + "3" * 30
    (cost,) = read("date,model,cost\n" + f"2026-09-21,m,{third}\n" * 3).costs
    assert cost.cost_nanousd == 10**9


def test_every_bad_line_is_named_by_number_and_column():
    told = problems(
        GENERIC
        + "2026-09-21,gpt-4o,1,1,1\n"
        + "\n"
        + "yesterday,gpt-4o,1,1,1\n"
        + '2026-09-21,"a\nb",nan,1,1\n'
        + "2026-09-21,,1e30,-1,x\n"
        + "2026-09-21,gpt-4o\n"
    )
    assert told.splitlines() == [
        "line 4, date: 'yesterday' is no date such as 2026-01-31",
        "line 6, cost_usd: 'nan' is no amount that the ledger can hold",
        "line 7, model: is empty",
        "line 7, cost_usd: '1e30' is no amount that the ledger can hold",
        "line 7, input_tokens: '-1' is no count of tokens",
        "line 7, output_tokens: 'x' is no count of tokens",
        "line 8: has 2 fields, the header 5",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the header has nothing; needed are the columns of one of Anthropic cost export"),
        ("model,tokens\nm,1\n", "the header has model, tokens; needed"),
        (GENERIC, "line 2: there is no line below the header"),
        ("date,model,cost,currency\n2026-09-21,m,1,EUR\n", "line 2, currency: 'EUR': only US dollars"),
    ],
)
def test_it_says_what_is_wrong_with_a_file(content, problem):
    assert problem in problems(content)


def test_what_is_no_text_is_refused():
    with pytest.raises(BadExport, match="is not text in UTF-8"):
        read_export(b"PK\x03\x04\xff\xfe")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("ours", "theirs", "together"),
    [
        ({"gpt-4o"}, {"gpt-4o-2024-08-06"}, True),
        ({"gpt-4o", "gpt-4o-2024-08-06"}, {"gpt-4o-2024-08-06"}, True),
        ({"claude-haiku-4-5-20251001"}, {"Claude Haiku 4.5"}, True),
        ({"claude-3-5-sonnet-latest"}, {"Claude Sonnet 3.5"}, True),
        ({"mistral-large-latest"}, {"mistral-large-2411"}, True),
        ({"gpt-4o-2024-05-13", "gpt-4o-2024-08-06"}, {"gpt-4o-2024-05-13", "gpt-4o-2024-08-06"}, False),
        ({"gpt-4o"}, {"gpt-4o-mini"}, False),
        ({"gpt-4"}, {"gpt-4o"}, False),
        ({"claude-sonnet-4"}, {"Claude Sonnet 4.5"}, False),
    ],
)
def test_names_that_differ_in_their_date_are_compared_together(ours, theirs, together):
    found = comparable(ours, theirs)
    assert set(found) == ours | theirs
    assert (len(set(found.values())) == 1) is together


# ---------------------------------------------------------------- against the ledger


@pytest.fixture
def openai(db):
    return Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")


def write(segment, *lines, interrupted=()):
    assert book(segment, len(lines), done=text(*lines), interrupted=text(*interrupted))


def imported(content, provider="openai"):
    content = content if isinstance(content, bytes) else content.encode()
    return import_export(provider, content, file_name="costs.csv", by="me")


def test_it_shows_the_drift_per_model_and_day(openai):
    write(
        "s",
        done("a"),
        done("b", model="gpt-4o-mini", cost_nanousd=1_000, at=AT + DAY_S),
        done("c", model="gpt-4o-2024-08-06", cost_nanousd=8_000),
        done("d", at=AT + 3 * DAY_S, cost_nanousd=500),  # no export tells of that day
        done("e", provider="azure"),
        done("f", cost_nanousd=None, price_id=None),
        json.dumps({**json.loads(done("g")), "own_credential": True}).encode() + b"\n",
        done("h", route="shadow:x", cost_nanousd=5_000),
        interrupted=(opened("i", estimate=Usage(prompt=7)),),
    )
    write("s2", done("i", cost_nanousd=1_000))
    imported((EXPORTS / "openai_cost.csv").read_bytes())
    found = compare("openai", DAY, date(2026, 9, 30))
    assert [(row.day, row.models, row.ours, row.theirs, row.unpriced) for row in found.rows] == [
        (date(2026, 9, 22), "gpt-4o-mini (billed as gpt-4o-mini-2024-07-18)", 1_000, 1_000_000, 0),
        (DAY, "gpt-4o, gpt-4o-2024-08-06 (billed as gpt-4o-2024-08-06)", 56_000, 40_000, 1),
    ]
    assert [row.difference for row in found.rows] == [-999_000, 16_000]
    assert found.rows[1].percent == 40.0
    assert (found.ours, found.theirs, found.total.difference) == (57_000, 1_040_000, -983_000)
    assert (found.days, found.unbilled_days, found.unbilled) == (2, 1, 500)
    assert billed_days("openai") == (DAY, date(2026, 9, 22))


def test_days_are_utc_whatever_the_tenants_calendar(openai):
    midnight = 1_790_035_200  # 2026-09-22 00:00 UTC
    write("s", done("a", at=midnight - 0.001), done("b", at=midnight))
    imported("date,model,cost\n2026-09-21,gpt-4o,0.000042\n2026-09-22,gpt-4o,0.000042\n")
    assert [row.difference for row in compare("openai", DAY, date(2026, 9, 22)).rows] == [0, 0]


def test_importing_a_day_again_replaces_it(openai):
    content = "date,model,cost\n2026-09-21,gpt-4o,1\n2026-09-21,gpt-4o-mini,1\n2026-09-22,gpt-4o,1\n"
    first = imported(content)
    imported(content, provider="azure")
    second = imported("date,model,cost\n2026-09-21,gpt-4o,3\n")
    assert first.sha256 != second.sha256
    rows = VendorCost.objects.filter(provider="openai").order_by("day")
    assert [(str(row.day), row.model, row.cost_nanousd, row.source_id) for row in rows] == [
        ("2026-09-21", "gpt-4o", 3 * 10**9, second.pk),
        ("2026-09-22", "gpt-4o", 10**9, first.pk),
    ]
    assert VendorCost.objects.filter(provider="azure").count() == 3


def test_nothing_of_a_bad_file_is_imported(openai):
    imported("date,model,cost\n2026-09-21,gpt-4o,1\n")
    with pytest.raises(BadExport):
        imported("date,model,cost\n2026-09-21,gpt-4o,2\n2026-09-22,gpt-4o,much\n")
    assert [row.cost_nanousd for row in VendorCost.objects.all()] == [10**9]
    assert VendorImport.objects.count() == 1


def test_what_only_one_side_has_is_shown(openai):
    write("s", done("a"))
    imported("date,model,cost,input_tokens\n2026-09-21,o1,2,7\n")
    rows = compare("openai", DAY, DAY).rows
    assert [(row.models, row.percent, row.our_tokens, row.their_tokens) for row in rows] == [
        ("o1 (billed alone)", -100.0, 0, 7),
        ("gpt-4o", None, 120, None),
    ]


# ---------------------------------------------------------------- manage.py reconcile


def command(*arguments):
    out = StringIO()
    call_command("reconcile", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_the_command_imports_and_prints_the_drift(openai):
    write("s", done("a"))
    told = command(EXPORTS / "openai_cost.csv", "--provider", "openai")
    assert "openai, 2026-09-21 to 2026-09-22 (read as OpenAI cost export)" in told
    assert (
        "2026-09-21  gpt-4o (billed as gpt-4o-2024-08-06): "
        "ledger $0.000042, vendor $0.00004: +$0.000002 (+5.00 %)" in told
    )
    assert "All together: ledger $0.000042, vendor $0.00104: -$0.000998 (-95.96 %)" in told
    found = json.loads(command(EXPORTS / "openai_cost.csv", "--provider", "openai", "--json"))
    assert found["difference_usd"] == "-0.000998"
    assert found["rows"][1] == {
        "day": "2026-09-21",
        "models": ["gpt-4o"],
        "billed_as": ["gpt-4o-2024-08-06"],
        "ours_usd": "0.000042",
        "theirs_usd": "0.00004",
        "difference_usd": "0.000002",
        "percent": 5.0,
        "unpriced": 0,
    }


def test_the_command_says_what_is_wrong(openai, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text(GENERIC + "x,y,z,1,1\n")
    with pytest.raises(CommandError, match="nothing was read in:\nline 2, date: 'x'"):
        command(bad, "--provider", "openai")
    with pytest.raises(CommandError, match="--provider: nobody is none of the providers: openai"):
        command(bad, "--provider", "nobody")
    with pytest.raises(CommandError, match="No such file"):
        command(tmp_path / "none.csv", "--provider", "openai")
