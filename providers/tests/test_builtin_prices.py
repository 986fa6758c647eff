"""Built-in prices: what the package knows, as rows; what a row cannot say stays unknown."""

import re
import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from genai_prices.data import providers as vendors
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as PackageUsage

from config.models import ConfigChange, current_version
from providers.builtin_prices import (
    ALWAYS,
    _dated_rates,
    _names,
    _samples,
    mark,
    write_all_builtin_prices,
    write_builtin_prices,
    write_new_builtin_prices,
)
from providers.models import Price, Provider
from providers.pricing import RATE_COLUMNS, cost_nanousd, price_rule
from providers.usage import Usage

URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "mistral": "https://api.mistral.ai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "deepseek": "https://api.deepseek.com",
    "x-ai": "https://api.x.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "azure": "https://example.openai.azure.com/openai/v1",
}


def provider(base_url: str = URLS["openai"], name: str = "p") -> Provider:
    return Provider.objects.create(name=name, dialect="openai", base_url=base_url)


def model(prices, **clause) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals(**(clause or {"equals": "m"})), prices=prices)


def price(**rates) -> ModelPrice:
    return ModelPrice(**{name: Decimal(rate) for name, rate in rates.items()})


@pytest.mark.django_db
class TestRows:
    def test_it_writes_rates_in_nano_dollars(self):
        row = provider()
        assert write_builtin_prices(row) == row.prices.count() > 100
        mini = row.prices.get(model="gpt-4o-mini")
        assert (mini.input_nanousd_per_mtok, mini.output_nanousd_per_mtok) == (150_000_000, 600_000_000)
        assert (mini.cached_input_nanousd_per_mtok, mini.cache_write_nanousd_per_mtok) == (75_000_000, None)
        assert (mini.source, mini.effective_from) == ("builtin", ALWAYS)
        assert mini.context_window == 128_000

    def test_it_writes_nothing_the_second_time(self):
        row = provider()
        write_builtin_prices(row)
        version = current_version()
        assert write_builtin_prices(row) == 0
        assert write_all_builtin_prices() == 0
        assert current_version() == version

    def test_it_changes_only_rows_that_differ(self):
        row = provider()
        write_builtin_prices(row)
        wrong = row.prices.get(model="gpt-4o-mini")
        row.prices.filter(pk=wrong.pk).update(input_nanousd_per_mtok=1, context_window=None)
        row.prices.filter(model="gpt-4o").delete()
        gone = Price.objects.create(
            provider=row, model="gone", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1, source="builtin"
        )
        before = current_version()
        assert write_builtin_prices(row) == 3
        assert set(ConfigChange.objects.filter(version__gt=before).values_list("part", flat=True)) == {
            "prices"
        }
        wrong.refresh_from_db()
        assert (wrong.input_nanousd_per_mtok, wrong.context_window) == (150_000_000, 128_000)
        assert row.prices.filter(model="gpt-4o").exists()
        assert not Price.objects.filter(pk=gone.pk).exists()

    def test_it_never_touches_an_operators_row(self):
        row = provider()
        own = Price.objects.create(
            provider=row,
            model="gpt-4o",
            input_nanousd_per_mtok=1,
            output_nanousd_per_mtok=1,
            effective_from=ALWAYS,
        )
        write_builtin_prices(row)
        row.base_url = "http://localhost"
        row.save()
        write_builtin_prices(row)
        assert list(row.prices.all()) == [own]

    def test_a_server_of_no_known_vendor_has_no_prices(self):
        assert write_builtin_prices(provider("http://localhost:8000/v1")) == 0
        assert write_builtin_prices(provider("demo://", "demo")) == 0

    def test_a_provider_that_is_gone_gets_none(self):
        row = provider()
        Provider.objects.all().delete()
        assert write_builtin_prices(row) == 0

    def test_a_process_that_looks_often_has_them_written_once(self, monkeypatch):
        monkeypatch.setattr("providers.builtin_prices._seen", set())
        commands: list[list[str]] = []

        def run(command: list[str], **_) -> None:
            commands.append(command)

        row = provider()
        assert [write_new_builtin_prices(run) for _ in range(2)] == [True, False]
        row.base_url = URLS["mistral"]
        row.save()
        assert [write_new_builtin_prices(run) for _ in range(2)] == [True, False]
        assert [command[2] for command in commands] == ["write_builtin_prices"] * 2

    def test_a_process_that_was_started_after_they_were_written_has_none_written(self, monkeypatch):
        provider()
        monkeypatch.setattr("providers.builtin_prices._seen", set())
        write_all_builtin_prices()
        monkeypatch.setenv("GATEWAY_PRICES_WRITTEN", mark())
        monkeypatch.setattr("providers.builtin_prices._seen", set())
        commands: list[list[str]] = []

        def run(command: list[str], **_) -> None:
            commands.append(command)

        assert not write_new_builtin_prices(run)
        assert commands == []
        row = provider(URLS["mistral"], "q")
        assert [write_new_builtin_prices(run) for _ in range(2)] == [True, False]
        # And as a process that begins when there is one more.
        monkeypatch.setattr("providers.builtin_prices._seen", set())
        assert write_new_builtin_prices(run)
        # And with another package.
        row.delete()
        monkeypatch.setattr("providers.builtin_prices._seen", set())
        monkeypatch.setattr("providers.builtin_prices.metadata.version", lambda _: "0")
        assert write_new_builtin_prices(run)

    def test_the_command_says_how_many_it_changed(self):
        provider("https://api.x.ai/v1")
        out = StringIO()
        call_command("write_builtin_prices", stdout=out)
        call_command("write_builtin_prices", stdout=out)
        first, second = out.getvalue().splitlines()
        assert first.endswith("built-in prices changed.")
        assert second == "0 built-in prices changed."

    def test_a_start_date_becomes_a_row_of_its_own(self):
        row = provider()
        write_builtin_prices(row)
        rows = row.prices.filter(model="o3").order_by("effective_from")
        assert list(rows.values_list("effective_from", "input_nanousd_per_mtok")) == [
            (ALWAYS, 10 * 10**9),
            (datetime(2025, 6, 10, tzinfo=UTC), 2 * 10**9),
        ]

    @pytest.mark.parametrize("url", URLS.values(), ids=URLS)
    def test_every_row_is_valid(self, url):
        row = provider(url)
        write_builtin_prices(row)
        assert row.prices.exists()
        for made in row.prices.all():
            made.clean_fields()


class TestNames:
    @pytest.mark.parametrize(
        ("clause", "names"),
        [
            (ClauseEquals(equals="m"), ["m"]),
            (ClauseStartsWith(starts_with="m"), ["m", "m*"]),
            (ClauseContains(contains="m"), ["m", "m*"]),
            (ClauseEndsWith(ends_with="m"), ["m"]),
            (ClauseOr(or_=[ClauseEquals(equals="a"), ClauseStartsWith(starts_with="b")]), ["a", "b", "b*"]),
            (ClauseAnd(and_=[ClauseStartsWith(starts_with="m"), ClauseRegex(regex="^(?!.*tts)")]), ["m"]),
            (ClauseRegex(regex=r"^gpt-5\.6-sol-\d{4}-\d{2}-\d{2}$"), ["gpt-5.6-sol-20*"]),
            (ClauseRegex(regex=r"^claude-fable-5-\d{8}$"), ["claude-fable-5-20*"]),
            (ClauseRegex(regex=r"^claude-opus-5[-@]\d{8}$"), ["claude-opus-5-20*", "claude-opus-5@20*"]),
            (ClauseRegex(regex=r"^x-\d"), [f"x-{digit}*" for digit in range(10)]),
            (ClauseRegex(regex="^(?!.*tts)"), []),
            (ClauseRegex(regex=r"m\d+"), []),
        ],
    )
    def test_it_says_what_can_be_said_as_a_name_or_prefix(self, clause, names):
        assert [name for name, _ in _samples(clause)] == names

    @pytest.mark.parametrize("url", URLS.values(), ids=URLS)
    def test_each_name_costs_what_the_package_says(self, url):
        """The sample of a prefix, or the exact name, gives the rates of the package's own lookup."""
        vendor = next(vendor for vendor in vendors if re.match(vendor.api_pattern, url))
        for name, dated in _names(url):
            meant = (
                vendor.find_model(name.replace("*", "~"), all_providers=vendors)
                if not name.endswith("20*")
                else None
            )
            if dated and meant is not None:
                assert dated == _dated_rates(meant), name

    @pytest.mark.parametrize("url", URLS.values(), ids=URLS)
    def test_no_prefix_gives_its_price_to_a_model_that_must_stay_unknown(self, url):
        names = dict(_names(url))
        prefixes = [name[:-1] for name, dated in names.items() if dated and name.endswith("*")]
        unknown = [name.rstrip("*") for name, dated in names.items() if not dated]
        assert [name for name in unknown if name.startswith(tuple(prefixes))] == []

    def test_common_models_are_known(self):
        for vendor, wanted in {
            "openai": ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "o3", "text-embedding-3-small"],
            "anthropic": ["claude-haiku-4-5*", "claude-sonnet-4-5*", "claude-opus-4-5*"],
            "gemini": ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-embedding-001"],
            "mistral": ["mistral-large-latest", "codestral-latest"],
        }.items():
            known = {name for name, dated in _names(URLS[vendor]) if dated}
            assert set(wanted) <= known, vendor


class TestRates:
    def test_it_takes_the_rates_of_text(self):
        rates = price(input_mtok="1", output_mtok="2", cache_read_mtok="0.003625", cache_write_mtok="4")
        assert _dated_rates(model(rates)) == [
            (
                ALWAYS,
                {
                    **dict.fromkeys(RATE_COLUMNS.values()),
                    "input_nanousd_per_mtok": 10**9,
                    "output_nanousd_per_mtok": 2 * 10**9,
                    "cached_input_nanousd_per_mtok": 3_625_000,
                    "cache_write_nanousd_per_mtok": 4 * 10**9,
                    "tiers": [],
                    "context_window": None,
                },
            )
        ]

    @pytest.mark.parametrize(("said", "taken"), [(128_000, 128_000), (None, None), (0, None)])
    def test_it_takes_the_context_window(self, said, taken):
        known = ModelInfo(
            id="m",
            match=ClauseEquals(equals="m"),
            prices=price(input_mtok="1", output_mtok="2"),
            context_window=said,
        )
        assert _dated_rates(known)[0][1]["context_window"] == taken

    def test_it_takes_the_rates_of_parts(self):
        rates = price(
            input_mtok="1",
            output_mtok="2",
            cache_write_1h_mtok="3",
            output_reasoning_mtok="4",
            input_audio_mtok="5",
            cache_audio_read_mtok="6",
            output_audio_mtok="7",
            input_image_mtok="8",
            cache_image_read_mtok="9",
            output_image_mtok="10",
            web_searches_kcount="11",
        )
        ((_, row),) = _dated_rates(model(rates))
        assert {name: row[column] and row[column] // 10**9 for name, column in RATE_COLUMNS.items()} == {
            "input": 1,
            "output": 2,
            "cached_input": None,
            "cache_write": None,
            "cache_write_1h": 3,
            "reasoning": 4,
            "audio_input": 5,
            "cached_audio_input": 6,
            "audio_output": 7,
            "image_input": 8,
            "cached_image_input": 9,
            "image_output": 10,
        }

    @pytest.mark.parametrize(
        "rates",
        [
            {"input_mtok": "1", "output_mtok": "1", "input_video_mtok": "1"},
            {"input_mtok": "1", "output_mtok": "1", "input_image_mtok": "4", "input_video_mtok": "4"},
            {"input_mtok": "1", "output_mtok": "1", "output_image_mtok": "4", "output_video_mtok": "4"},
            {"input_mtok": "1", "input_video_mtok": "5"},  # an embedding: only texts are embedded here
        ],
    )
    def test_it_takes_films_that_cost_what_pictures_do(self, rates):
        assert len(_dated_rates(model(price(**rates)))) == 1

    def test_it_takes_all_tiers(self):
        tiered = ModelPrice(
            input_mtok=TieredPrices(
                base=Decimal(1), tiers=[Tier(200_000, Decimal(2)), Tier(400_000, Decimal(3))]
            ),
            output_mtok=Decimal(3),
            cache_read_mtok=TieredPrices(base=Decimal("0.1"), tiers=[Tier(400_000, Decimal("0.3"))]),
        )
        ((_, row),) = _dated_rates(model(tiered))
        assert (row["input_nanousd_per_mtok"], row["cached_input_nanousd_per_mtok"]) == (10**9, 10**8)
        assert row["tiers"] == [
            {"above_prompt_tokens": 200_000, "input": 2 * 10**9},
            {"above_prompt_tokens": 400_000, "input": 3 * 10**9, "cached_input": 3 * 10**8},
        ]

    def test_a_tier_finer_than_a_row_can_say_leaves_the_model_out(self):
        tiered = TieredPrices(base=Decimal(1), tiers=[Tier(1, Decimal("0.0000000001"))])
        assert _dated_rates(model(ModelPrice(input_mtok=tiered, output_mtok=Decimal(1)))) == []

    @pytest.mark.parametrize("url", URLS.values(), ids=URLS)
    def test_each_row_bills_texts_as_the_package_does(self, url):
        """New, cached and written, in and out; before, at and above the borders of tiers."""
        vendor = next(vendor for vendor in vendors if re.match(vendor.api_pattern, url))
        now = datetime(2026, 11, 26, tzinfo=UTC)
        for known in vendor.models:
            dated = [rates for start, rates in _dated_rates(known) if start <= now]
            if not dated:
                continue
            rule = price_rule(
                {"id": 1, "model": "m", "source": "builtin", "effective_from": 0.0, **dated[-1]}
            )
            for prompt in (0, 99_999, 100_001, 199_999, 200_000, 200_001, 272_000, 272_001):
                usage = Usage(prompt=prompt, completion=1000, cached=prompt // 4, cache_write=prompt // 8)
                told = PackageUsage(
                    input_tokens=prompt,
                    output_tokens=1000,
                    cache_read_tokens=usage.cached,
                    cache_write_tokens=usage.cache_write,
                )
                paid = known.calc_price(told, vendor, genai_request_timestamp=now).total_price
                assert abs(cost_nanousd(usage, rule.rates) - paid * 10**9) <= Decimal("0.5"), known.id

    def test_an_embedding_has_no_output_to_pay_for(self):
        assert _dated_rates(model(price(input_mtok="1")))[0][1]["output_nanousd_per_mtok"] == 0

    @pytest.mark.parametrize(
        "rates",
        [
            {},
            {"output_mtok": "1"},
            {"audio_hours": "1"},
            {"input_mtok": "1", "output_mtok": "1", "requests_kcount": "5"},
            {"input_mtok": "1", "output_mtok": "1", "input_document_kpages": "5"},
            {"input_mtok": "1", "output_mtok": "1", "output_citation_mtok": "5"},
            # Films are counted with pictures.
            {"input_mtok": "1", "output_mtok": "1", "input_video_mtok": "5"},
            {"input_mtok": "1", "output_mtok": "1", "input_image_mtok": "4", "input_video_mtok": "5"},
            {"input_mtok": "1", "output_mtok": "1", "output_video_mtok": "5"},
            {"input_mtok": "0.0000000001", "output_mtok": "1"},
        ],
    )
    def test_what_no_row_can_say_stays_unknown(self, rates):
        assert _dated_rates(model(price(**rates))) == []

    def test_prices_by_time_of_day_stay_unknown(self):
        night = TimeOfDateConstraint(start_time=time(1, tzinfo=UTC), end_time=time(4, tzinfo=UTC))
        listed = [
            ConditionalPrice(prices=price(input_mtok="2", output_mtok="2")),
            ConditionalPrice(night, prices=price(input_mtok="1", output_mtok="1")),
        ]
        assert _dated_rates(model(listed)) == []

    def test_dates_count_in_the_order_of_time_and_equal_neighbours_once(self):
        def since(day: date, rate: str) -> ConditionalPrice:
            return ConditionalPrice(StartDateConstraint(day), prices=price(input_mtok=rate, output_mtok=rate))

        listed = [
            ConditionalPrice(prices=price(input_mtok="1", output_mtok="1")),
            since(date(2026, 1, 1), "2"),
            since(date(2026, 2, 1), "2"),
            since(date(2026, 3, 1), "3"),
        ]
        dated = {start: rates["input_nanousd_per_mtok"] for start, rates in _dated_rates(model(listed))}
        assert dated == {
            ALWAYS: 10**9,
            datetime(2026, 1, 1, tzinfo=UTC): 2 * 10**9,
            datetime(2026, 3, 1, tzinfo=UTC): 3 * 10**9,
        }

    def test_a_date_that_cannot_be_said_leaves_the_model_out(self):
        listed = [
            ConditionalPrice(prices=price(input_mtok="1", output_mtok="1")),
            ConditionalPrice(StartDateConstraint(date(2026, 1, 1)), prices=price(audio_hours="1")),
        ]
        assert _dated_rates(model(listed)) == []


def test_the_package_is_loaded_only_when_prices_are_written():
    """A web worker pays no memory for it."""
    script = (
        "import django; django.setup(); import sys, providers.builtin_prices, gatewaysite.bootstrap;"
        "print('genai_prices' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
