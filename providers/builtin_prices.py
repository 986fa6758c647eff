r"""Built-in prices: what the genai-prices package says, written as Price rows (`source=builtin`).

Workers read rows only; the package (about 40 MB in memory) is imported inside these functions, which
bootstrap and operators' commands call. A provider is matched to a vendor by its base URL. What a Price
row cannot say is left out, so that its cost is unknown instead of wrong:

- rates by time of day, by request, by page, by second of audio, of citations, and of films where they differ
  from those of pictures, with which they are counted;
- model patterns other than an exact name, a prefix, or a dated name (`^gpt-x-\d{4}-\d{2}-\d{2}$`).

Tiers by prompt length mean the same here, in the package and on vendors' pages: the whole call is billed in
the tier of its prompt, cached tokens counted (OpenAI, Anthropic, Google: above the number; xAI: from it on,
which the package writes as above the number before it). What the package has for other service tiers (batch,
flex, priority) is left out: a row is the standard one.

A `contains` or `ends with` pattern holds for the name itself, which is what vendors' APIs use. Every pattern
is looked up in the package again before it is written, since there the first match in its list wins and here
the longest one.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib import metadata
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction

from config.money import nanousd
from providers.models import Price, Provider
from providers.pricing import RATE_COLUMNS
from providers.tiers import ABOVE

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
# A rate in the package -> ours.
_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "cached_image_input",
    "output_image_mtok": "image_output",
}
_TIERS, _WINDOW = "tiers", "context_window"
_LITERALS = ("equals", "starts_with", "contains", "ends_with")
# Paid beside the tokens: without these the cost of tokens is still right.
_ASIDE = frozenset({"web_searches_kcount", "storage_searches_kcount"})
_FILMS = {"input_video_mtok": "input_image_mtok", "output_video_mtok": "output_image_mtok"}
# `^gpt-6-sol-\d{4}-\d{2}-\d{2}$`, `^claude-opus-5[-@]\d{8}$`: a name and its date.
_DATED = re.compile(r"\^(?P<name>(?:[\w/:.-]|\\\.)+?)(?P<dash>-|\[-@\])\\d\{(?:8|4\}-\\d\{2\}-\\d\{2)\}\$")
# `^gemini-3\.5-flash-\d`: a name and a number.
_NUMBERED = re.compile(r"\^(?P<name>(?:[\w/:.-]|\\\.)+-)\\d")

# Names for a process the `mark` of what was written just before it was started.
WRITTEN = "GATEWAY_PRICES_WRITTEN"
# Providers, by id and base URL, whose prices this process has had written.
_seen: set[tuple[int, str]] = set()

Rates = Mapping[str, Any]
Dated = Sequence[tuple[datetime, Rates]]


def write_builtin_prices(provider: Provider) -> int:
    """Make the built-in price rows of `provider` what the package says; return how many rows changed.

    Rows that are right stay untouched, and so does every row of an operator.
    """
    wanted = {(name, start): rates for name, dated in _names(provider.base_url) for start, rates in dated}
    with transaction.atomic():
        # One process at a time; and none for a provider that is gone by now.
        if Provider.objects.select_for_update().filter(pk=provider.pk).first() is None:
            return 0
        rows = Price.objects.filter(provider=provider, source=Price.Source.BUILTIN)
        present = {(row.model, row.effective_from): row for row in rows}
        surplus = [row.pk for key, row in present.items() if key not in wanted]
        differing = [row for key, row in present.items() if key in wanted and _take(row, wanted[key])]
        missing = [
            Price(provider=provider, model=name, effective_from=start, source=Price.Source.BUILTIN, **rates)
            for (name, start), rates in wanted.items()
            if (name, start) not in present
        ]
        if surplus:
            rows.filter(pk__in=surplus).delete()
        if differing:
            Price.objects.bulk_update(differing, [*RATE_COLUMNS.values(), _TIERS, _WINDOW], batch_size=500)
        if missing:
            Price.objects.bulk_create(missing, batch_size=500)
    return len(surplus) + len(differing) + len(missing)


def write_all_builtin_prices() -> int:
    """Write the built-in prices of every provider; return how many rows changed."""
    count = 0
    for provider in Provider.objects.order_by("pk"):
        count += write_builtin_prices(provider)
        _seen.add((provider.pk, provider.base_url))
    return count


def mark(providers: Collection[tuple[int, str]] | None = None) -> str:
    """Return what tells these providers (by id and base URL) and the package from any others.

    None: those whose prices this process has had written.
    """
    told = (metadata.version("genai-prices"), sorted(_seen if providers is None else providers))
    return hashlib.sha256(repr(told).encode()).hexdigest()


def write_new_builtin_prices(run: Callable[..., Any] = subprocess.run) -> bool:
    """Write prices when a provider is new or moved; return whether there was one.

    For a process that lives long and looks often: the package is loaded by a short-lived one. None is needed
    at the first look when the process that started this one has written them all.
    """
    present = set(Provider.objects.values_list("pk", "base_url"))
    if not _seen and os.environ.get(WRITTEN) == mark(present):
        _seen.update(present)
    if present <= _seen:
        return False
    run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "write_builtin_prices"],
        check=True,
        timeout=120,
    )
    _seen.update(present)
    return True


def _take(row: Price, rates: Rates) -> bool:
    """Set the row's rates and context window; return whether they were others."""
    before = {column: getattr(row, column) for column in rates}
    for column, rate in rates.items():
        setattr(row, column, rate)
    return before != rates


def _names(base_url: str) -> Iterator[tuple[str, Dated]]:
    """Yield each name (exact, or a prefix with *) that the vendor at `base_url` prices, and its rates."""
    from genai_prices.data import providers as vendors  # noqa: PLC0415 - see the top

    vendor = next((vendor for vendor in vendors if re.match(vendor.api_pattern, base_url)), None)
    if vendor is None:
        return
    lenders = [other for other in vendors if other.id in (vendor.fallback_model_providers or ())]
    samples: dict[str, str] = {}
    for source in (vendor, *lenders):
        for model in source.models:
            samples.update(_samples(model.match))
    meant = {name: vendor.find_model(sample, all_providers=vendors) for name, sample in samples.items()}
    for name, meaning in meant.items():
        said_by_prefix = not name.endswith("*") and meant.get(f"{name}*") is meaning
        if meaning is not None and not said_by_prefix:
            yield name, _dated_rates(meaning)


def _samples(clause: Any) -> Iterator[tuple[str, str]]:
    """Yield names that `clause` may mean, each with a model name to look it up by."""
    literal = next((getattr(clause, kind) for kind in _LITERALS if hasattr(clause, kind)), None)
    if literal is not None:
        yield literal, literal
        if hasattr(clause, "starts_with") or hasattr(clause, "contains"):
            yield f"{literal}*", f"{literal}~"
    for part in getattr(clause, "or_", ()):
        yield from _samples(part)
    for part in getattr(clause, "and_", ()):
        yield from ((name, sample) for name, sample in _samples(part) if not name.endswith("*"))
    if hasattr(clause, "regex"):
        yield from _regex_samples(clause.regex)


def _regex_samples(regex: str) -> Iterator[tuple[str, str]]:
    dated, numbered = _DATED.fullmatch(regex), _NUMBERED.fullmatch(regex)
    if dated:
        name = dated["name"].replace("\\", "")
        date = "20260131" if "{8}" in regex else "2026-01-31"
        for dash in "-@" if "@" in dated["dash"] else "-":
            yield f"{name}{dash}20*", f"{name}{dash}{date}"
    if numbered:
        name = numbered["name"].replace("\\", "")
        for digit in range(10):
            yield f"{name}{digit}*", f"{name}{digit}~"


def _dated_rates(model: "ModelInfo") -> Dated:
    """Return the model's rates by the moment they begin, and its window; none when a row cannot say them."""
    conditions: list[Any] = (
        [price.constraint for price in model.prices] if isinstance(model.prices, list) else []
    )
    if any(hasattr(condition, "start_time") for condition in conditions):
        return []
    days = [condition.start_date for condition in conditions if hasattr(condition, "start_date")]
    starts = [ALWAYS, *(datetime.combine(day, time(), UTC) for day in sorted(days))]
    dated: list[tuple[datetime, Rates]] = []
    for start in starts:
        rates = _rates(model.get_prices(start))
        if rates is None:
            return []
        rates = {**rates, _WINDOW: model.context_window or None}
        if not dated or dated[-1][1] != rates:
            dated.append((start, rates))
    return dated


def _rates(price: "ModelPrice") -> Rates | None:
    """Return the rates by column; None when there are none, or some that no column says."""
    given = {name: rate for name, rate in vars(price).items() if rate is not None and name not in _ASIDE}
    for film, picture in _FILMS.items():
        if film in given and _says_films(given, film, picture):
            del given[film]
    if "input_mtok" not in given or not given.keys() <= _RATES.keys():
        return None
    given.setdefault("output_mtok", Decimal(0))  # an embedding: it has no output to pay for
    try:
        rates = {_RATES[name]: nanousd(getattr(rate, "base", rate)) for name, rate in given.items()}
        tiers = _tiers(given)
    except ValueError:  # finer than a nano-dollar per million tokens
        return None
    return {**{column: rates.get(name) for name, column in RATE_COLUMNS.items()}, _TIERS: tiers}


def _says_films(given: Mapping[str, Any], film: str, picture: str) -> bool:
    """Are films paid as pictures are? Of embeddings it does not matter: only texts are embedded here."""
    general = "input_mtok" if film.startswith("input") else "output_mtok"
    return bool(given[film] == given.get(picture, given.get(general)) or "output_mtok" not in given)


def _tiers(given: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return the tiers of all rates together: each says anew those that change with the prompt's length."""
    tiered = {_RATES[name]: rate.tiers for name, rate in given.items() if hasattr(rate, "tiers")}
    starts = sorted({tier.start for tiers in tiered.values() for tier in tiers})
    return [
        {ABOVE: start}
        | {
            name: nanousd(reached[-1].price)
            for name, tiers in tiered.items()
            if (reached := [tier for tier in tiers if tier.start <= start])
        }
        for start in starts
    ]
