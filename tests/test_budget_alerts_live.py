"""Budgets that reach a percentage, on a served gateway, and on databases that several processes share."""

from collections.abc import Iterator

import httpx
import pytest

from tests.gateway import running_gateway
from tests.receivers import Receiver, mail_sink, webhook_receiver
from tests.servers import MANAGE, child, eventually, gateway_env, manage, postgres

# One dollar a token: the demo's answers cost something.
CONFIG = """
version: 1
tenants:
  - {{name: acme, budgets: [{{amount_usd: "{amount}", window: month, mode: soft}}]}}
keys:
  - {{name: acme-ci, tenant: acme, secret: "the-key-of-acme-0123456789"}}
prices:
  - {{provider: demo, model: echo, input_usd_per_mtok: "1000000", output_usd_per_mtok: "1000000"}}
"""
REACH = """
from django.utils import timezone
from keys.models import Budget, BudgetWindow
from keys.calendar import FIRST
for _ in range(20):
    budget = Budget.objects.create(amount_nanousd=10, window="total")
    BudgetWindow.objects.create(budget=budget, starts_at=FIRST, spent_nanousd=10)
"""
# Waits for the others, so that all look at once.
LOOK = """
import pathlib, time
from keys.tasks import look_through_budgets, tell_of_budgets
pathlib.Path({mine!r}).touch()
while len(list(pathlib.Path({mine!r}).parent.glob("ready-*"))) < {processes}:
    time.sleep(0.001)
for _ in range(4):
    look_through_budgets()
    tell_of_budgets()
print("looked")
"""
PROCESSES = 2


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        yield receiver


def test_what_a_key_spends_is_told_by_mail_and_webhook(hook: Receiver) -> None:
    with (
        mail_sink() as mails,
        running_gateway(
            {
                "CACHE_MODE": "none",
                "EMAIL_URL": mails.url,
                "EMAIL_FROM": "Gateway <gateway@acme.test>",
                "BUDGET_ALERT_EMAILS": "ops@acme.test",
                "BUDGET_ALERT_WEBHOOK_URL": hook.url,
                "LOG_LEVEL": "debug",
            },
            files={"config.yaml": CONFIG.format(amount="1000")},
        ) as gateway,
    ):
        answer = httpx.post(
            f"{gateway.url}/v1/chat/completions",
            headers={"authorization": "Bearer the-key-of-acme-0123456789"},
            json={"model": "demo/echo", "messages": [{"role": "user", "content": "word " * 450}]},
        )
        assert answer.status_code == 200, answer.text
        spent = answer.json()["usage"]["total_tokens"]
        percent = 100 if spent >= 1000 else 80
        (request,) = eventually(lambda: hook.requests, what="the webhook")
        (mail,) = eventually(lambda: mails.taken, what="the mail")
        assert (request.json["percent"], request.json["tenant"]) == (percent, "acme")
        assert (request.json["spent_usd"], request.json["limit_usd"]) == (str(spent), "1000")
        assert (mail["To"], mail["From"]) == ("ops@acme.test", "Gateway <gateway@acme.test>")
        assert f"Spent:     ${spent}.00" in mail.get_content()
        assert hook.url not in gateway.log()


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_processes_that_look_at_once_tell_once(tmp_path, hook: Receiver, database: str) -> None:
    if database == "sqlite":
        told_once(gateway_env(tmp_path, BUDGET_ALERT_WEBHOOK_URL=hook.url), tmp_path, hook)
        return
    with postgres() as server:
        url = server.create("gateway")
        told_once(gateway_env(tmp_path, BUDGET_ALERT_WEBHOOK_URL=hook.url, DATABASE_URL=url), tmp_path, hook)


def told_once(env, directory, hook: Receiver) -> None:
    manage("migrate", env=env)
    manage("shell", "-c", REACH, env=env)
    running = []
    for number in range(PROCESSES):
        code = LOOK.format(mine=str(directory / f"ready-{number}"), processes=PROCESSES)
        running.append(child(f"look-{number}", [*MANAGE, "shell", "-c", code], env=env))
    with running[0] as one, running[1] as two:
        for each in (one, two):
            each.wait_for("looked", within_s=60)
    ids = [request.json["id"] for request in hook.requests]
    assert len(ids) == len(set(ids)) == 20
    unsent = (
        "from keys.models import BudgetAlert as A; print('unsent', A.objects.filter(sent_at=None).count())"
    )
    assert "unsent 0" in manage("shell", "-c", unsent, env=env)
