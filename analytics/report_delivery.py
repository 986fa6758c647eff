"""When the daily report goes out, and to whom: to each once, however often and by however many it is tried.

Who has got a day's report is remembered with the job's row; the job itself runs nowhere twice at a time.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import structlog
from django.conf import settings
from django.core.mail import EmailMessage

from analytics.report import report_of, subject_of, text_of
from config.jobs import counted, remember, remembered
from config.telling import Untold, mail, post

NAME = "daily-report"
# Bookings of the day before may come so late; and who could not be told until then is told no more.
SETTLED = timedelta(minutes=5)
TRIED_FOR = timedelta(hours=12)

log = structlog.get_logger()


def send_due(now: datetime) -> str:
    """Send yesterday's report to those who have not got it, from REPORT_HOUR on; say what was done.

    Raises Untold where somebody could not be told: the others have been.
    """
    env = settings.GATEWAY
    zone = ZoneInfo(env.report_timezone)
    here = now.astimezone(zone)
    due = max(
        datetime(here.year, here.month, here.day, env.report_hour, tzinfo=zone),
        datetime(here.year, here.month, here.day, tzinfo=zone) + SETTLED,
    )
    if not (env.report_emails or env.report_webhook):
        return "nothing to do: neither REPORT_EMAILS nor REPORT_WEBHOOK is set"
    if not due <= here < due + TRIED_FOR:
        return ""
    day = here.date() - timedelta(days=1)
    memory = remembered(NAME)
    told = list(memory.get("told", ())) if memory.get("day") == str(day) else []
    if not [name for name in _names() if name not in told]:
        return ""
    return _send(day, told, report_of(day, zone=zone, now=now))


def _send(day: date, told: list[str], report: Mapping[str, Any]) -> str:
    problems = []
    for name, send in _recipients(report).items():
        if name in told:
            continue
        try:
            send()
        except Untold as problem:
            problems.append(f"{name}: {problem}")
            log.warning("report_not_sent", day=str(day), problem=str(problem))
        else:
            told.append(name)
            remember(NAME, day=str(day), told=told)
    if problems:
        raise Untold(f"the report of {day} was not sent to {'; '.join(problems)}")
    return f"report of {day} sent to {counted(len(told), 'recipient')}"


def _names() -> list[str]:
    env = settings.GATEWAY
    return [*env.report_emails, *(["webhook"] if env.report_webhook else [])]


def _recipients(report: Mapping[str, Any]) -> dict[str, Callable[[], None]]:
    """Return how each is told, by name."""
    env = settings.GATEWAY
    found: dict[str, Callable[[], None]] = {}
    for address in env.report_emails:
        message = EmailMessage(subject_of(report), text_of(report), to=[address])
        message.extra_headers["X-Gateway-Report"] = str(report["id"])
        found[address] = partial(mail, message)
    if env.report_webhook:
        found["webhook"] = partial(
            post, env.report_webhook, orjson.dumps(report), secret=env.report_webhook_secret
        )
    return found
