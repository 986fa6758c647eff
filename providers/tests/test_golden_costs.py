"""Costs to the nano-dollar, from the vendor's own usage to the price row: golden_costs.yaml has them."""

from datetime import UTC, date, datetime, time
from fractions import Fraction
from pathlib import Path

import orjson
import pytest
import yaml
from django.db import transaction

from config.money import nanousd
from providers.builtin_prices import ALWAYS, write_builtin_prices
from providers.dialects import DIALECTS
from providers.models import Price, Provider
from providers.pricing import RATE_COLUMNS, RULE_COLUMNS, cost_nanousd, price_rule, schedule
from providers.tests.samples import make_call
from providers.tiers import ABOVE
from providers.wires import CHAT, EMBEDDINGS, RESPONSES
from proxy.metering import usage_in

GROUPS = yaml.safe_load((Path(__file__).parent / "golden_costs.yaml").read_text())
# A vendor: its dialect, and the address by which its built-in prices are known.
VENDORS = {
    "openai": ("openai", "https://api.openai.com/v1"),
    "anthropic": ("anthropic", "https://api.anthropic.com"),
    "gemini": ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
    "mistral": ("mistral", "https://api.mistral.ai/v1"),
    "xai": ("openai", "https://api.x.ai/v1"),
    "deepseek": ("openai", "https://api.deepseek.com"),
    "groq": ("openai", "https://api.groq.com/openai/v1"),
}
TODAY = date(2026, 11, 26)
CALLS = [
    pytest.param(group, call, id=f"{group['vendor']}-{call['model']}-{number}")
    for group in GROUPS
    for number, call in enumerate(group["calls"], start=1)
]


@pytest.fixture(scope="module")
def rules(django_db_setup, django_db_blocker):
    """By vendor: the rules of the built-in rows alone, and of those with an operator's beside them."""
    made = {}
    with django_db_blocker.unblock(), transaction.atomic():
        for vendor, (dialect, url) in VENDORS.items():
            provider = Provider.objects.create(name=f"golden-{vendor}", dialect=dialect, base_url=url)
            write_builtin_prices(provider)
            builtin = rules_of(provider)
            for group in GROUPS:
                if group["vendor"] == vendor and "own" in group:
                    own_price(provider, **group["own"])
            made[vendor] = builtin, rules_of(provider)
        transaction.set_rollback(True)
    return made


@pytest.mark.django_db  # for the fixture: a database is made only where a test says so
@pytest.mark.parametrize(("group", "call"), CALLS)
def test_a_call_costs_what_the_vendor_says(rules, group, call):
    builtin, corrected = rules[group["vendor"]]
    assert cost(corrected, group["vendor"], call) == nanousd(call["usd"])
    built_in_is_right = cost(builtin, group["vendor"], call) == nanousd(call["usd"])
    assert built_in_is_right == ("own" not in group), "where the built-in prices are right, take `own` away"


@pytest.mark.parametrize(("group", "call"), CALLS)
def test_each_golden_cost_is_worked_out_right_and_has_its_source(group, call):
    """Tokens times rates, kind by kind, rounded half up once; all of the vendor's tokens are in it."""
    assert group["source"].startswith("https://")
    terms = [tuple(map(Fraction, term.split(" x "))) for term in call["working"].split(" + ")]
    millionths = sum((tokens * rate for tokens, rate in terms), Fraction(0))
    assert nanousd(call["usd"]) == int(millionths * 1000 + Fraction(1, 2))
    usage = usage_of(group["vendor"], call)
    assert sum(tokens for tokens, _ in terms) == usage.total


def test_there_are_enough_of_them():
    assert len(CALLS) >= 60
    assert {group["vendor"] for group in GROUPS} == set(VENDORS)


def rules_of(provider):
    rows = provider.prices.values(*RULE_COLUMNS)
    return [price_rule({**row, "effective_from": row["effective_from"].timestamp()}) for row in rows]


def own_price(provider, *, model, rates, tiers=()):
    columns = {RATE_COLUMNS[name]: nanousd(str(rate)) for name, rate in rates.items()}
    said = [
        {name: amount if name == ABOVE else nanousd(str(amount)) for name, amount in tier.items()}
        for tier in tiers
    ]
    price = Price(provider=provider, model=model, effective_from=ALWAYS, tiers=said, **columns)
    price.full_clean()
    price.save()


def cost(rules, vendor, call):
    """Return what the gateway says that it cost; None where it does not know."""
    at = datetime.combine(call.get("at", TODAY), time(12), UTC).timestamp()
    rates = schedule(rules, call["model"]).at(at)
    return None if rates is None else cost_nanousd(usage_of(vendor, call), rates)


def usage_of(vendor, call):
    """Read the usage as it is read from the vendor's answer."""
    kind = call.get("kind", "chat")
    if kind == "passed":
        return usage_in(orjson.dumps({"data": [], "usage": call["usage"]}))
    dialect = DIALECTS[VENDORS[vendor][0]]
    body = ANSWERS[dialect.name, kind](call["usage"])
    wire = {"chat": CHAT, "embeddings": EMBEDDINGS, "responses": RESPONSES}[kind]
    return dialect.decode(orjson.dumps(body), make_call(wire=wire, input="a")).usage


def _completion(usage):
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    return {
        "id": "a",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def _embedding(usage):
    row = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return {"object": "list", "data": [row], "model": "m", "usage": usage}


ANSWERS = {
    ("openai", "chat"): _completion,
    ("openai", "embeddings"): _embedding,
    ("openai", "responses"): lambda usage: {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "output": [],
        "usage": usage,
    },
    ("anthropic", "chat"): lambda usage: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "usage": usage,
    },
    ("gemini", "chat"): lambda usage: {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}, "finishReason": "STOP"}],
        "usageMetadata": usage,
    },
    ("gemini", "embeddings"): lambda usage: {"embeddings": [{"values": [0.5]}], "usageMetadata": usage},
    ("mistral", "chat"): _completion,
    ("mistral", "embeddings"): _embedding,
}
