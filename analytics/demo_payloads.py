"""Texts for the demo's latest requests of the one tenant that has payloads stored.

They are blacked out, cut and encrypted as those of real requests are, and have an end as theirs have.
"""

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from analytics.demo_cast import PREFIX
from analytics.models import RequestLog, StoredPayload
from config.vault import Vault
from keys.models import Tenant
from proxy.payload_text import Censor, Kept

STORED = 60
_BYTES_OF_A_TOKEN = 4
_RULES = (
    "You are the assistant of a shop for bicycle parts. Answer in the customer's language.",
    "Orders before noon leave the same day; returns are free within thirty days.",
    "Never promise a date that the warehouse has not confirmed.",
    "If a part does not fit, ask for the frame's year and the bottom bracket's standard.",
    "Prices contain the tax of the country of delivery.",
    "Quote part numbers as they stand in the catalogue, and link to their page.",
    "Where you are not sure, say so and offer to hand over to a colleague.",
)
_QUESTIONS = (
    "Where is order 48213? You can reach me at lena.hoffmann@example.com or +49 30 901820.",
    "Does the 11-speed cassette CS-5800 fit my 2014 hub?",
    "I paid with card 4111 1111 1111 1111 and was charged twice. Please look into it.",
    "Summarize the reviews of the saddle SD-120 in three sentences.",
    "Schreib eine freundliche Absage: Das Teil wird nicht mehr hergestellt.",
)
_ANSWERS = (
    "Your parcel left our warehouse this morning and is on its way.",
    "Yes, it fits: the hub takes 8 to 11 speeds, without a spacer.",
    "I have asked a colleague to compare both charges; one of them is a reservation.",
    "Most reviewers praise the padding, a few find it too wide for long rides.",
    "If you like, I can put the part on your wish list.",
    "Would you like me to open a return for it?",
)


def write(now: datetime, *, seed: int) -> int:
    """Store what the latest requests of tenants with `payload_days` asked and got; return how many."""
    rng = random.Random(seed)  # noqa: S311 - texts that can be made again
    days = dict(
        Tenant.objects.filter(name__startswith=PREFIX, payload_days__gt=0).values_list("pk", "payload_days")
    )
    if not days:
        return 0
    since = now - timedelta(days=min(days.values()))
    # What a limit refuses before anybody is asked is not stored, nor what had no end.
    rows = RequestLog.objects.filter(tenant_ref__in=days, at__gte=since, outcome="ok")
    rows = rows.order_by("-at", "-id")[:STORED]
    stored = StoredPayload.objects.bulk_create(_payloads(rows, days, rng))
    return len(stored)


def remove(tenants: Iterable[int]) -> None:
    """Delete those of tenants."""
    StoredPayload.objects.filter(tenant_ref__in=tenants).delete()


def _payloads(
    rows: Iterable[RequestLog], days: dict[int, int], rng: random.Random
) -> Iterable[StoredPayload]:
    env = settings.GATEWAY
    censor = Censor(limit=env.payload_max_bytes, patterns=env.payload_redact)
    vault = Vault(settings.SECRET_KEYS)
    for row in rows:
        asked, answered = censor.kept(_asked(row, rng)), censor.kept(_answered(row, rng))
        yield StoredPayload(
            completion_id=row.completion_id,
            at=row.at,
            expires_at=row.at + timedelta(days=days[row.tenant_ref or 0]),
            tenant_ref=row.tenant_ref,
            key_ref=row.key_ref,
            request=_sealed(vault, asked),
            answer=_sealed(vault, answered),
            request_bytes=asked.size,
            answer_bytes=answered.size,
            redactions=asked.redactions + answered.redactions,
        )


def _asked(row: RequestLog, rng: random.Random) -> bytes:
    messages = [
        {"role": "system", "content": _text(_RULES, row.prompt_tokens, rng)},
        {"role": "user", "content": rng.choice(_QUESTIONS)},
    ]
    return _json({"model": row.requested_model, "messages": messages, "stream": row.stream})


def _answered(row: RequestLog, rng: random.Random) -> bytes:
    message = {"role": "assistant", "content": _text(_ANSWERS, row.completion_tokens, rng)}
    said = {
        "id": f"chatcmpl-{row.completion_id}",
        "object": "chat.completion",
        "created": int(row.at.timestamp()),
        "model": row.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": row.prompt_tokens, "completion_tokens": row.completion_tokens},
    }
    return _json(said)


def _text(sentences: tuple[str, ...], tokens: int | None, rng: random.Random) -> str:
    """Return about as much text as so many tokens are."""
    text = rng.choice(sentences)
    while len(text) < (tokens or 0) * _BYTES_OF_A_TOKEN:
        text += f" {rng.choice(sentences)}"
    return text


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _sealed(vault: Vault, kept: Kept) -> str:
    return vault.seal_bytes(kept.text.encode()).decode()
