"""Members and settings: owners manage them, and never leave a tenant without an owner."""

import pytest
from auditlog.models import LogEntry

from analytics.dashboard.tests.kit import browser, person
from keys.models import Member, Tenant

pytestmark = pytest.mark.django_db
MEMBERS = "/dashboard/acme/members/"


@pytest.fixture
def acme() -> Tenant:
    return Tenant.objects.create(name="acme")


def test_an_owner_brings_in_somebody_by_name_or_address(acme):
    owner = person("olga", acme)
    client = browser(owner)
    person("ida")
    person("ivo")
    client.post(MEMBERS, {"who": "ida", "role": "member"})
    client.post(MEMBERS, {"who": " IVO@example.com ", "role": "viewer"})
    assert dict(acme.members.values_list("user__username", "role")) == {
        "olga": "owner",
        "ida": "member",
        "ivo": "viewer",
    }
    made = LogEntry.objects.get_for_model(Member).filter(action=LogEntry.Action.CREATE)
    assert made.filter(actor=owner).count() == 2


@pytest.mark.parametrize("who", ["nobody", "olga", "twice@example.com", "gone", ""])
def test_it_brings_in_nobody_who_is_not_one_active_person(acme, who):
    client = browser(person("olga", acme))
    gone = person("gone")
    gone.is_active = False
    gone.save()
    for name in ("one", "two"):
        twin = person(name)
        twin.email = "twice@example.com"
        twin.save()
    response = client.post(MEMBERS, {"who": who, "role": "viewer"})
    assert response.status_code == 200
    assert b'role="alert"' in response.content
    assert acme.members.count() == 1


def test_the_last_owner_stays(acme):
    owner = person("olga", acme)
    person("max", acme, "member")
    client = browser(owner)
    mine = Member.objects.get(user=owner)
    for path, data in ((f"{MEMBERS}{mine.pk}/", {"role": "viewer"}), (f"{MEMBERS}{mine.pk}/remove/", {})):
        assert "keeps an owner" in client.post(path, data, follow=True).content.decode()
        mine.refresh_from_db()
        assert mine.role == "owner"
    other = Member.objects.get(user__username="max")
    client.post(f"{MEMBERS}{other.pk}/", {"role": "owner"})
    assert client.post(f"{MEMBERS}{mine.pk}/remove/")["Location"] == "/dashboard/"
    assert client.get("/dashboard/acme/").status_code == 404


def test_a_role_that_is_none_changes_nothing(acme):
    client = browser(person("olga", acme))
    person("max", acme, "member")
    member = Member.objects.get(user__username="max")
    html = client.post(f"{MEMBERS}{member.pk}/", {"role": "king"}, follow=True).content.decode()
    assert "role: must be one of owner, member, viewer." in html
    member.refresh_from_db()
    assert member.role == "member"


def test_an_owner_sets_the_time_zone_and_who_is_told(acme):
    client = browser(person("olga", acme))
    url = "/dashboard/acme/settings/"
    client.post(url, {"timezone": "Asia/Kolkata", "alert_emails": "a@example.com\nb@example.com"})
    acme.refresh_from_db()
    assert (acme.timezone, acme.alert_emails) == ("Asia/Kolkata", ["a@example.com", "b@example.com"])
    wrong = client.post(url, {"timezone": "Mars/Base", "alert_emails": "nobody"}).content.decode()
    assert "not a known time zone" in wrong
    assert "not an e-mail address" in wrong
    acme.refresh_from_db()
    assert acme.timezone == "Asia/Kolkata"
