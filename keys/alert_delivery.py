"""Tells people and webhooks of budgets that have reached a percentage, each apart, until it has worked.

A delivery is claimed by moving its `due_at`: of two processes one changes the row, and one finds it changed.
A process that dies with a claim leaves a delivery that is due again when the claim has run out.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from config.telling import Untold, mail, post
from config.vault import SecretUnreadable, Vault
from keys.alert_messages import json_of, subject_of, text_of
from keys.alerting import OPERATORS, targets_of
from keys.models import AlertDelivery, Budget, BudgetAlert

PARALLEL, BATCH = 8, 40
# Longer than any delivery takes: nobody else may try it meanwhile.
CLAIMED_FOR = timedelta(minutes=5)
# After each failure but the last, which comes about seven hours after the first.
RETRY_AFTER_S = (10, 30, 60, 300, 900, 1800, 3600, 7200, 10_800)
MAX_ATTEMPTS = len(RETRY_AFTER_S) + 1
MAX_PROBLEM = 300

log = structlog.get_logger()


class Outcome(NamedTuple):
    """How an attempt ended: `problem` is empty where it has worked."""

    problem: str = ""
    lasting: bool = False


class Claim(NamedTuple):
    """A delivery that is this process's to try, for the `attempt`-th time, and how it is done."""

    delivery_id: int
    alert_id: int
    attempt: int
    send: Callable[[], None]


def deliver_due(now: datetime) -> int:
    """Try what is due, some at a time; return how many were tried."""
    claims = _claimed(now)
    if not claims:
        return 0
    with ThreadPoolExecutor(max_workers=min(PARALLEL, len(claims)), thread_name_prefix="alert") as pool:
        for claim, outcome in zip(claims, pool.map(_tried, claims), strict=True):
            _note(claim, outcome)
    return len(claims)


def _claimed(now: datetime) -> Sequence[Claim]:
    due = (
        AlertDelivery.objects.filter(due_at__lte=now)
        .select_related("alert__window__budget__tenant", "alert__window__budget__key__tenant")
        .order_by("due_at", "pk")[:BATCH]
    )
    return [
        Claim(row.pk, row.alert_id, row.attempts + 1, _sending(row))
        for row in due
        if AlertDelivery.objects.filter(pk=row.pk, attempts=row.attempts, due_at=row.due_at).update(
            attempts=row.attempts + 1, due_at=timezone.now() + CLAIMED_FOR
        )
    ]


def _sending(row: AlertDelivery) -> Callable[[], None]:
    """Return what tells one of an alert; it needs no database."""
    alert = row.alert
    budget = alert.window.budget
    if (row.kind, row.address) not in targets_of(budget):
        return _nobody
    if row.kind == AlertDelivery.Kind.EMAIL:
        message = EmailMessage(subject_of(alert), text_of(alert), to=[row.address])
        message.extra_headers["X-Gateway-Alert"] = f"budget-alert-{alert.pk}"
        return lambda: mail(message)
    body, of_operators = orjson.dumps(json_of(alert)), row.address == OPERATORS
    secret = settings.GATEWAY.budget_alert_webhook_secret
    return lambda: post(_url_of(budget, of_operators=of_operators), body, secret=secret)


def _nobody() -> None:
    raise Untold("is not to be told any more", lasting=True)


def _url_of(budget: Budget, *, of_operators: bool) -> str:
    if of_operators:
        return str(settings.GATEWAY.budget_alert_webhook_url)
    tenant = budget.tenant or (budget.key.tenant if budget.key else None)
    try:
        return Vault(settings.SECRET_KEYS).open(tenant.alert_webhook) if tenant else ""
    except SecretUnreadable:
        raise Untold("no key in GATEWAY_SECRET_KEYS opens the webhook's URL") from None


def _tried(claim: Claim) -> Outcome:
    try:
        claim.send()
    except Untold as problem:
        return Outcome(str(problem)[:MAX_PROBLEM], problem.lasting)
    except Exception as problem:  # noqa: BLE001 - a background loop: one message never stops the others
        return Outcome(f"failed: {type(problem).__name__}")
    return Outcome()


def _note(claim: Claim, outcome: Outcome) -> None:
    """Write down how it went, and what that makes of its alert."""
    now, problem = timezone.now(), outcome.problem
    again = bool(problem) and not outcome.lasting and claim.attempt < MAX_ATTEMPTS
    with transaction.atomic():
        alert = BudgetAlert.objects.select_for_update().filter(pk=claim.alert_id).first()
        if alert is None:
            return  # the budget was deleted meanwhile
        AlertDelivery.objects.filter(pk=claim.delivery_id, attempts=claim.attempt).update(
            problem=problem,
            sent_at=None if problem else now,
            due_at=now + timedelta(seconds=RETRY_AFTER_S[claim.attempt - 1]) if again else None,
        )
        _sum_up(alert)
    if problem:
        log.warning("budget_alert_not_sent", alert=claim.alert_id, attempt=claim.attempt, problem=problem)
    else:
        log.info("budget_alert_sent", alert=claim.alert_id, attempt=claim.attempt)


def _sum_up(alert: BudgetAlert) -> None:
    """An alert is sent when nobody is left to be told, and somebody has been; so are those it speaks for."""
    deliveries = list(alert.deliveries.order_by("pk"))
    sent = [each.sent_at for each in deliveries if each.sent_at is not None]
    alert.attempts = max((each.attempts for each in deliveries), default=0)
    alert.problem = "; ".join(f"{each.address}: {each.problem}" for each in deliveries if each.problem)[
        :MAX_PROBLEM
    ]
    alert.sent_at = max(sent) if sent and all(each.due_at is None for each in deliveries) else None
    alert.save(update_fields=["attempts", "problem", "sent_at"])
    if alert.sent_at is not None:
        BudgetAlert.objects.filter(
            window=alert.window_id,
            percent__lt=alert.percent,
            spent_nanousd=alert.spent_nanousd,
            limit_nanousd=alert.limit_nanousd,
            sent_at=None,
            deliveries=None,
        ).update(sent_at=alert.sent_at)
