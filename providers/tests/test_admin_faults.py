"""The provider screen where the demo's faults are switched on and off."""

import pytest
from auditlog.models import LogEntry

from config.models import current_version
from config.tests.admin_kit import messages_in, operator, page, signed_in
from providers.faults import OFF, Faults
from providers.models import Provider
from providers.tests.test_admin import LIST, change, form, make

pytestmark = pytest.mark.django_db
HEADING = "Rehearse failures"


@pytest.fixture
def client():
    return operator()


def demo(name="demo-a", **fields):
    return make(name, "demo://", secret="", **fields)


def demo_form(provider, **changes):
    written = {name: "" if value is None else str(value) for name, value in OFF.items()}
    return form(**{"name": provider.name, "base_url": "demo://", **written, **changes})


def errors_of(response):
    assert response.status_code == 200
    return dict(response.context["adminform"].form.errors)


def action(client, name, *providers):
    selected = [provider.pk for provider in providers]
    response = client.post(LIST, {"action": name, "_selected_action": selected}, follow=True)
    return messages_in(response.content.decode())


def test_it_shows_them_for_a_demo_alone(client):
    assert HEADING in page(client, change(demo()))
    assert HEADING not in page(client, change(make()))
    assert HEADING not in page(client, f"{LIST}add/")


def test_it_switches_them_on(client):
    provider = demo()
    response = client.post(change(provider), demo_form(provider, fault_status="503", fault_percent="25"))
    assert response.status_code == 302, messages_in(response.content.decode())
    provider.refresh_from_db()
    assert provider.faults == Faults(percent=25.0, status=503)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fault_status": "200"}, "fault_status"),
        ({"fault_percent": ""}, "fault_percent"),
        ({"fault_cut_after": "1", "fault_stall_after": "1"}, "fault_stall_after"),
    ],
)
def test_it_says_at_the_field_what_is_wrong(client, changes, field):
    provider = demo()
    response = client.post(change(provider), demo_form(provider, **changes))
    assert list(errors_of(response)) == [field]


@pytest.mark.parametrize(("name", "value"), [("fault_status", 503), ("fault_percent", 20.0)])
def test_it_shows_what_must_go_before_a_demo_becomes_a_real_vendor(client, name, value):
    provider = demo(**{name: value})
    moved = {"base_url": "https://vendor.example/v1"}
    response = client.post(change(provider), demo_form(provider, **{name: str(value)}, **moved))
    assert list(errors_of(response)) == [name]
    assert "is for the demo provider alone" in messages_in(response.content.decode())
    assert HEADING in response.content.decode()
    assert client.post(change(provider), demo_form(provider, **moved)).status_code == 302
    provider.refresh_from_db()
    assert (provider.base_url, provider.given_faults()) == ("https://vendor.example/v1", [])


@pytest.mark.parametrize(
    ("fields", "badge"),
    [
        ({"fault_status": 503}, "fails on purpose"),
        ({}, "enabled"),
        ({"fault_status": 503, "fault_percent": 0}, "enabled"),
        ({"fault_status": 503, "enabled": False}, "disabled"),
    ],
)
def test_the_list_has_a_badge_for_what_fails_on_purpose(client, fields, badge):
    demo(**fields)
    text = messages_in(page(client, LIST))
    assert f"demo:// {badge} " in text


def test_it_switches_them_all_off_and_audits_each(client):
    made = [demo("demo-a", fault_status=503), demo("demo-b", fault_stall_after=0), demo("demo")]
    version = current_version()
    said = action(client, "switch_faults_off", *made)
    assert "2 providers no longer fail on purpose." in said
    assert [row.given_faults() for row in Provider.objects.all()] == [[], [], []]
    assert current_version() == version + 2
    assert LogEntry.objects.filter(action=LogEntry.Action.UPDATE).count() == 2
    assert "None of them failed on purpose." in action(client, "switch_faults_off", *made)


def test_it_says_that_one_is_mended(client):
    said = action(client, "switch_faults_off", demo(fault_latency_ms=5))
    assert "1 provider no longer fails on purpose." in said


def test_those_who_may_only_look_switch_nothing_off():
    provider = demo(fault_status=503)
    action(signed_in("providers.view_provider"), "switch_faults_off", provider)
    provider.refresh_from_db()
    assert provider.fault_status == 503
