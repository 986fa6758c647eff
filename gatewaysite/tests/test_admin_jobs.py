"""The screen of the jobs: what each did, what keeps it from that, and a button that runs it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from config.models import JobRun
from config.tests.admin_kit import messages_in, operator, page, signed_in

pytestmark = pytest.mark.django_db

JOBS = "/admin/config/jobrun/"


def test_it_shows_every_scheduled_job_also_what_has_never_run(settings):
    html = messages_in(page(operator(), JOBS))
    for name in settings.CELERY_BEAT_SCHEDULE:
        assert name in html
    assert "has never run" in html


def test_a_failing_job_needs_attention_until_it_goes_well():
    client, now = operator(), timezone.now()
    row = JobRun.objects.create(
        name="purge-payloads",
        state=JobRun.State.FAILED,
        started_at=now,
        finished_at=now,
        problem="OperationalError: disk <full>",
        failing_since=now - timedelta(hours=2),
    )
    assert "Job Purge payloads fails: OperationalError: disk &lt;full&gt;" in page(client, "/admin/")
    assert "failing for 2" in messages_in(page(client, JOBS))
    assert "purges" not in page(signed_in("keys.view_budget"), "/admin/")
    client.post(JOBS, {"action": "run_selected", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert (row.state, row.result, row.failing_since) == ("done", "0 payloads purged", None)
    assert "Purge payloads fails" not in page(client, "/admin/")


def test_it_runs_one_for_those_who_may_and_says_what_it_did():
    JobRun.objects.create(name="purge-receipts", state=JobRun.State.DONE, started_at=timezone.now())
    looker = signed_in("config.view_jobrun")
    assert "Run now" not in page(looker, f"{JOBS}purge-receipts/change/")
    assert looker.post(f"{JOBS}purge-receipts/run/").status_code == 403
    client = signed_in("config.view_jobrun", "config.change_jobrun")
    assert "Run now" in page(client, f"{JOBS}purge-receipts/change/")
    answer = client.post(f"{JOBS}purge-receipts/run/", {"_form_submitted": "True"}, follow=True)
    assert "Purge receipts: 0 receipts purged." in answer.content.decode()
    assert JobRun.objects.get().runs == 1
