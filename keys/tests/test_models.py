import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from config.models import ConfigChange, current_version
from config.money import nanousd
from keys import secret as secrets
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, RateLimit, Tenant

pytestmark = pytest.mark.django_db
OWN = "any-24-chars-or-more"


@pytest.fixture
def tenant():
    return Tenant.objects.create(name="acme")


@pytest.fixture
def key(tenant):
    key, _ = ApiKey.issue(tenant=tenant, name="ci")
    key.save()
    return key


def changes(after):
    return list(ConfigChange.objects.filter(version__gt=after).values_list("part", "ref"))


def refused(row):
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()


# ---------------------------------------------------------------- Tenant


def test_it_knows_a_tenant_by_its_name(tenant):
    assert str(tenant) == "acme"
    refused(Tenant(name="acme"))


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_it_takes_a_time_zone_that_exists(timezone):
    Tenant(name="acme", timezone=timezone).full_clean()


@pytest.mark.parametrize("timezone", ["Mars/Base", "CET+1", "../etc/passwd", ""])
def test_it_refuses_a_time_zone_that_does_not(timezone):
    with pytest.raises(ValidationError) as raised:
        Tenant(name="acme", timezone=timezone).full_clean()
    assert "timezone" in raised.value.message_dict


# ---------------------------------------------------------------- ApiKey


def test_it_stores_a_secrets_digest_and_nothing_of_the_rest(tenant):
    key, secret = ApiKey.issue(tenant=tenant, name="ci", allowed_models=["gpt-4o*"])
    key.full_clean()
    key.save()
    key.refresh_from_db()
    assert key.digest == secrets.digest(secret).hex()
    assert key.prefix == secret[:12]
    assert secret not in repr(key.__dict__)
    assert str(key) == "ci"


def test_it_takes_an_own_secret_as_it_is(tenant):
    key, secret = ApiKey.issue(tenant=tenant, name="ci", secret=OWN)
    assert secret == OWN
    assert key.prefix == "any-"


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("too-short", "at least 20"),
        ("sk-gw-" + "a" * 49, "checksum"),
        # What follows can never arrive in a header as it was stored.
        (f" {OWN}", None),
        (f"{OWN}\n", None),
        ("пароль-из-двадцати-четырёх-букв", None),
    ],
)
def test_it_refuses_a_secret_that_nobody_could_use(tenant, secret, why):
    with pytest.raises(ValueError, match=why):
        ApiKey.issue(tenant=tenant, name="ci", secret=secret)


def test_it_refuses_the_same_secret_or_name_twice(tenant):
    ApiKey.issue(tenant=tenant, name="one", secret=OWN)[0].save()
    refused(ApiKey.issue(tenant=tenant, name="two", secret=OWN)[0])
    refused(ApiKey.issue(tenant=tenant, name="one")[0])


@pytest.mark.parametrize("allowed", [[], ["gpt-4o*", "anthropic/*"]])
def test_it_takes_a_list_of_patterns(tenant, allowed):
    key, _ = ApiKey.issue(tenant=tenant, name="ci", allowed_models=allowed)
    key.full_clean()


@pytest.mark.parametrize("allowed", ["gpt-4o", {"a": 1}, [1], [""], [" "], [None], 7])
def test_it_refuses_what_is_no_list_of_patterns(tenant, allowed):
    key, _ = ApiKey.issue(tenant=tenant, name="ci", allowed_models=allowed)
    with pytest.raises(ValidationError) as raised:
        key.full_clean()
    assert "allowed_models" in raised.value.message_dict


def test_it_names_the_one_key_that_changed(key):
    before = current_version()
    key.enabled = False
    key.save()
    assert changes(before) == [("keys", str(key.pk))]


def test_it_announces_nothing_for_bookkeeping(key):
    before = current_version()
    key.last_used_at = timezone.now()
    key.save(update_fields=["last_used_at"])
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    assert changes(before) == []


def test_it_names_every_key_that_goes_with_its_tenant(tenant, key):
    other = ApiKey.issue(tenant=tenant, name="other")[0]
    other.save()
    before = current_version()
    tenant.delete()
    assert {("keys", str(key.pk)), ("keys", str(other.pk)), ("tenants", "")} <= set(changes(before))


# ---------------------------------------------------------------- RateLimit, Budget


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_it_wants_a_window_for_what_is_counted_over_time(kind):
    RateLimit(kind=kind, amount=5, per="minute").save()
    refused(RateLimit(kind=kind, amount=5))


def test_it_wants_no_window_for_requests_at_once():
    RateLimit(kind="concurrent", amount=5).save()
    refused(RateLimit(kind="concurrent", amount=5, per="minute"))


def test_it_wants_a_limit_that_lets_something_through():
    with pytest.raises(ValidationError):
        RateLimit(kind="requests", amount=0, per="minute").full_clean()
    refused(RateLimit(kind="requests", amount=-1, per="minute"))


@pytest.mark.parametrize(
    "make",
    [lambda **who: RateLimit(amount=1, per="day", **who), lambda **who: Budget(amount_nanousd=1, **who)],
)
def test_it_holds_for_a_key_or_a_tenant_or_everyone(tenant, key, make):
    for who in ({}, {"tenant": tenant}, {"key": key}):
        row = make(**who)
        row.full_clean()
        row.save()
    both = make(tenant=tenant, key=key)
    with pytest.raises(ValidationError, match="not both"):
        both.full_clean()
    refused(both)


def test_it_says_limits_in_words(tenant, key):
    assert str(RateLimit(kind="requests", amount=60, per="minute")) == "60 requests per minute"
    assert str(RateLimit(kind="tokens", amount=9, per="day")) == "9 tokens per day"
    assert str(RateLimit(kind="concurrent", amount=8)) == "8 requests at once"
    assert RateLimit(tenant=tenant, model="gpt-4o*").scope == "tenant acme, gpt-4o*"
    assert RateLimit(key=key).scope == "key ci"
    assert RateLimit().scope == "everyone"


def test_it_says_budgets_in_words():
    assert str(Budget(amount_nanousd=nanousd("25.00"), window="month")) == "$25 per month"
    assert str(Budget(amount_nanousd=nanousd("0.5"), window="total")) == "$0.5 in total"


def test_it_deletes_a_keys_limits_with_it_and_says_so(key):
    RateLimit.objects.create(key=key, amount=1, per="day")
    before, known = current_version(), str(key.pk)
    key.delete()
    assert not RateLimit.objects.exists()
    assert changes(before) == [("keys", known)]


def test_a_limit_tells_of_everyone_whose_it_has_been(key, tenant):
    """Of a key's own, no other Caller is read again."""
    other = ApiKey.issue(tenant=tenant, name="other")[0]
    other.save()
    before = current_version()
    limit = RateLimit.objects.create(key=key, amount=1, per="day")
    assert changes(before) == [("keys", str(key.pk))]
    for read in (limit, RateLimit.objects.get()):
        before = current_version()
        read.key = other
        read.save()
        read.key, read.tenant = None, tenant
        read.save()
        assert set(changes(before)) == {("keys", str(key.pk)), ("keys", str(other.pk)), ("limits", "")}
        RateLimit.objects.update(key=key, tenant=None)
    before = current_version()
    RateLimit.objects.all().delete()
    assert changes(before) == [("keys", str(key.pk))]


def test_it_refuses_a_star_that_would_match_nothing(key):
    for refuses in (
        RateLimit(amount=1, per="day", model="gpt-*-mini"),
        Budget(amount_nanousd=1, model="a*b"),
    ):
        with pytest.raises(ValidationError, match="stands at the end"):
            refuses.full_clean()
    key.denied_models = ["gpt-*-mini"]
    with pytest.raises(ValidationError, match="stands at the end"):
        key.full_clean()


# ---------------------------------------------------------------- LedgerEntry, BudgetWindow


def test_it_keeps_what_was_spent_when_the_key_is_gone(tenant, key):
    LedgerEntry.objects.create(completion_id="a", at=timezone.now(), key_ref=key.pk, tenant_ref=tenant.pk)
    tenant.delete()
    assert LedgerEntry.objects.get().key_ref is not None


def test_it_books_an_attempt_once():
    now = timezone.now()
    entry = LedgerEntry.objects.create(completion_id="a", at=now, cost_nanousd=nanousd("0.25"))
    LedgerEntry.objects.create(completion_id="a", at=now, attempt=1)
    LedgerEntry.objects.create(completion_id="a", at=now, kind="interrupted")
    refused(LedgerEntry(completion_id="a", at=now))
    assert str(entry) == "a: $0.25"
    assert str(LedgerEntry(completion_id="b")) == "b: unpriced"


def test_it_sums_a_window_once(key):
    budget = Budget.objects.create(key=key, amount_nanousd=nanousd("5"), window="day")
    start = timezone.datetime(2026, 11, 21, tzinfo=timezone.get_default_timezone())
    window = BudgetWindow.objects.create(budget=budget, starts_at=start, spent_nanousd=nanousd("1.25"))
    assert str(window) == "$5 per day since 2026-11-21: $1.25"
    refused(BudgetWindow(budget=budget, starts_at=start))


@pytest.mark.parametrize("weight", [0, 1001])
def test_it_refuses_a_weight_that_is_none(weight):
    with pytest.raises(ValidationError) as raised:
        Tenant(name="t", queue_weight=weight).full_clean()
    assert list(raised.value.message_dict) == ["queue_weight"]
