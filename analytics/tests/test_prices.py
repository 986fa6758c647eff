import pytest

from analytics.prices import PriceBook
from providers.models import Price, Provider
from providers.pricing import Rates
from providers.tiers import Tier

pytestmark = pytest.mark.django_db


def test_it_reads_all_rates_of_the_providers_it_is_for():
    made = {name: Provider.objects.create(name=name, dialect="openai", base_url="http://p") for name in "ab"}
    for provider in made.values():
        Price.objects.create(
            provider=provider,
            model="m*",
            input_nanousd_per_mtok=1,
            output_nanousd_per_mtok=2,
            audio_input_nanousd_per_mtok=3,
            tiers=[{"above_prompt_tokens": 100, "input": 4}],
        )
    row = made["a"].prices.get()
    at = row.effective_from.timestamp()
    book = PriceBook(["a"])
    assert book.rates("a", "model", at) == Rates(
        price_id=row.pk,
        effective_from=at,
        input=1,
        output=2,
        audio_input=3,
        tiers=(Tier(100, (("input", 4),)),),
    )
    assert book.rates("a", "model", at - 1) is None
    assert book.rates("a", "other", at) is None
    assert book.rates("b", "model", at) is None
