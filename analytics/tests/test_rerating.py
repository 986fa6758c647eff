import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError

from analytics import rerating
from analytics.booking import book
from analytics.models import RequestLog, ReRating
from analytics.tests.spool_files import done, opened, text
from keys.models import ApiKey, Budget, BudgetWindow, LedgerEntry, Tenant
from providers.models import Price, Provider
from providers.usage import Usage
from proxy.completion import Attempt

pytestmark = pytest.mark.django_db

AT = 1_790_000_000.25  # 2026-09-21 14:13:20.25 UTC
DAY_S = 86_400
# The usage of `done`: 100 tokens in, 20 out.
COST, DEARER = 42_000, 100 * 1000 + 20 * 2000


@pytest.fixture
def key():
    key, _ = ApiKey.issue(tenant=Tenant.objects.create(name="acme"), name="ci")
    key.save()
    return key


@pytest.fixture
def openai():
    return Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")


def price(provider, model="gpt-4o", *, rate=10**9, since=2026, **fields):
    return Price.objects.create(
        provider=provider,
        model=model,
        input_nanousd_per_mtok=rate,
        output_nanousd_per_mtok=2 * rate,
        effective_from=datetime(since, 1, 1, tzinfo=UTC),
        **fields,
    )


def write(segment, *lines, interrupted=()):
    assert book(segment, len(lines), done=text(*lines), interrupted=text(*interrupted))


def looked(**scope):
    since = datetime(2026, 9, 1, tzinfo=UTC)
    return rerating.preview(ReRating(**{"since": since, "until": since + timedelta(days=30), **scope}))


def applied(**scope):
    return rerating.apply(looked(**scope), by="me")


def ledger():
    rows = LedgerEntry.objects.order_by("pk")
    return [(row.completion_id, row.kind, row.revision, row.cost_nanousd) for row in rows]


def test_a_preview_says_what_would_change_and_changes_nothing(key, openai):
    price(openai)
    own = {"key_id": key.pk, "tenant_id": key.tenant_id}
    write(
        "s",
        done("a", **own),
        done("b", at=AT + DAY_S, **own),
        done("c", cost_nanousd=None, price_id=None),
        done("d", cost_nanousd=DEARER),
        done("e", provider="azure"),
    )
    before = ledger()
    run = looked()
    assert (run.rows, run.changed, run.newly_priced, run.unpriced) == (5, 3, 1, 1)
    assert (run.before_nanousd, run.difference_nanousd) == (2 * COST, 2 * (DEARER - COST) + DEARER)
    assert run.sums == {
        "providers": ["azure", "openai"],
        "model": [["openai/gpt-4o", 3, 2 * COST, run.difference_nanousd]],
        "key": [["ci", 2, 2 * COST, 2 * (DEARER - COST)], ["deleted key 1", 1, 0, DEARER]]
        if key.pk != 1
        else [["ci", 3, 2 * COST, run.difference_nanousd]],
        "tenant": [["acme", 2, 2 * COST, 2 * (DEARER - COST)], ["deleted tenant 1", 1, 0, DEARER]]
        if key.tenant_id != 1
        else [["acme", 3, 2 * COST, run.difference_nanousd]],
        "day": [["2026-09-21", 2, COST, DEARER - COST + DEARER], ["2026-09-22", 1, COST, DEARER - COST]],
    }
    assert ledger() == before
    assert run.state == "preview"


def test_applying_adds_the_difference_and_moves_the_budgets(key, openai):
    Budget.objects.create(key=key, amount_nanousd=1)
    Budget.objects.create(amount_nanousd=1, window="day", model="openai/*")
    new = price(openai)
    write("s", done("a", key_id=key.pk, tags={"team": "x"}), done("b", key_id=key.pk, cost_nanousd=DEARER))
    Budget.objects.create(amount_nanousd=1, window="total")  # has no window yet
    run = applied()
    assert (run.state, run.applied_rows, run.applied_nanousd) == ("applied", 1, DEARER - COST)
    assert ledger()[2:] == [("a", "adjusted", 1, DEARER - COST)]
    row = LedgerEntry.objects.get(kind="adjusted")
    assert (row.price_ref, row.rerating_ref, row.at.timestamp()) == (new.pk, run.pk, AT)
    assert (row.prompt_tokens, row.completion_tokens, row.tags) == (0, 0, {"team": "x"})
    assert set(BudgetWindow.objects.values_list("spent_nanousd", "corrected_nanousd")) == {
        (2 * DEARER, DEARER - COST)
    }
    assert BudgetWindow.objects.count() == 3
    assert RequestLog.objects.get(completion_id="a").cost_nanousd == COST  # as it was told then


def test_applying_twice_changes_nothing(openai):
    Budget.objects.create(amount_nanousd=1)
    price(openai)
    write("s", done("a"))
    run = looked()
    rerating.apply(run, by="me")
    after = ledger(), list(BudgetWindow.objects.values())
    again = rerating.apply(ReRating.objects.get(pk=run.pk), by="someone else")
    assert (again.applied_by, again.applied_rows) == ("me", 1)
    assert (ledger(), list(BudgetWindow.objects.values())) == after


def test_two_previews_of_the_same_correct_once(openai):
    price(openai)
    write("s", done("a"))
    first, second = looked(), looked()
    assert first.changed == second.changed == 1
    assert rerating.apply(first, by="me").applied_rows == 1
    assert rerating.apply(second, by="me").applied_rows == 0
    assert looked().changed == 0


def test_one_that_was_broken_off_is_gone_on_with(openai, monkeypatch):
    Budget.objects.create(amount_nanousd=1)
    price(openai)
    write("s", *(done(f"c{number}") for number in range(5)))
    monkeypatch.setattr(rerating, "BATCH", 2)
    run, really, calls = looked(), rerating._apply_some, []

    def once(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return really(*arguments)

    monkeypatch.setattr(rerating, "_apply_some", once)
    with pytest.raises(KeyboardInterrupt):
        rerating.apply(run, by="me")
    run.refresh_from_db()
    assert (run.state, run.applied_rows) == ("applying", 2)
    run = rerating.apply(run, by="me")
    assert (run.state, run.applied_rows, run.applied_nanousd) == ("applied", 5, 5 * (DEARER - COST))
    assert BudgetWindow.objects.get().spent_nanousd == 5 * DEARER


def test_prices_that_changed_since_are_not_applied(openai):
    row = price(openai)
    write("s", done("a"))
    run = looked()
    row.input_nanousd_per_mtok += 1
    row.save()
    with pytest.raises(rerating.CannotRerate, match="Prices have changed"):
        rerating.apply(run, by="me")
    assert len(ledger()) == 1
    assert applied().applied_rows == 1


def test_what_came_in_since_is_left_alone_and_told(openai):
    price(openai)
    write("s1", done("a"))
    run = looked()
    write("s2", done("b"))
    assert rerating.came_since(run) == 1
    assert rerating.apply(run, by="me").applied_rows == 1
    assert [row for row in ledger() if row[1] == "adjusted"] == [("a", "adjusted", 1, DEARER - COST)]


def test_a_second_correction_starts_from_the_first(openai):
    row = price(openai)
    write("s", done("a"))
    applied()
    Price.objects.filter(pk=row.pk).update(input_nanousd_per_mtok=0, output_nanousd_per_mtok=0)
    applied()
    assert ledger()[1:] == [("a", "adjusted", 1, DEARER - COST), ("a", "adjusted", 2, -DEARER)]
    assert looked().changed == 0


def test_a_price_that_holds_from_later_on_is_not_taken(openai):
    price(openai, since=2027)
    write("s", done("a"))
    assert (looked().changed, looked().unpriced) == (0, 1)


def test_an_operators_price_beats_a_built_in_one(openai):
    price(openai, source="builtin", rate=7)
    price(openai, model="gpt*")
    write("s", done("a"))
    assert looked().difference_nanousd == DEARER - COST


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ({"provider": "azure"}, {"b"}),
        ({"model": "gpt-4o"}, {"a", "c"}),
        ({"model": "gpt-4*"}, {"a", "b", "c"}),
        ({"key_ref": 7}, {"c"}),
        ({"tenant_ref": 8}, {"c"}),
        ({"until": datetime.fromtimestamp(AT, UTC)}, set()),
        ({"since": datetime.fromtimestamp(AT, UTC)}, {"a", "b", "c"}),
    ],
)
def test_it_may_be_limited(openai, scope, found):
    azure = Provider.objects.create(name="azure", dialect="openai", base_url="http://azure.test")
    price(openai)
    price(azure, model="gpt-4o-eu")
    write(
        "s",
        done("a"),
        done("b", provider="azure", model="gpt-4o-eu"),
        done("c", key_id=7, tenant_id=8),
    )
    applied(**scope)
    assert {row[0] for row in ledger() if row[1] == "adjusted"} == found


def test_each_attempt_is_re_rated_by_its_own_price(openai):
    azure = Provider.objects.create(name="azure", dialect="openai", base_url="http://azure.test")
    price(openai)
    price(azure, rate=2 * 10**9)
    usage = Usage(prompt=100, completion=20)
    attempts = [
        Attempt("openai", "gpt-4o", 0, 1, 200, "hedged", usage=usage, price_id=1, cost_nanousd=5),
        Attempt("azure", "gpt-4o", 0, 1, 200, "ok", usage=usage),
    ]
    write("s", done("a", attempts=attempts, usage=usage.plus(usage), cost_nanousd=None, price_id=None))
    run = applied()
    assert (run.changed, run.newly_priced) == (2, 1)
    adjusted = LedgerEntry.objects.filter(kind="adjusted").order_by("attempt")
    assert list(adjusted.values_list("attempt", "cost_nanousd")) == [(0, DEARER - 5), (1, 2 * DEARER)]


def test_an_estimate_that_was_corrected_is_taken_back_whole(openai):
    Budget.objects.create(amount_nanousd=1)
    row = price(openai)
    write("s1", interrupted=(opened("a"), opened("b")))
    Price.objects.filter(pk=row.pk).update(input_nanousd_per_mtok=3 * 10**9)
    assert applied().applied_rows == 2
    write("s2", done("a"))
    assert [row[1:] for row in ledger() if row[0] == "a"] == [
        ("interrupted", 0, 1000 * 1000 + 500 * 1000 * 2),
        ("adjusted", 1, 1000 * 2000),
        ("retracted", 2, -4_000_000),
        ("spent", 0, COST),
    ]
    assert BudgetWindow.objects.get().spent_nanousd == 4_000_000 + COST
    run = applied()
    assert (run.rows, run.applied_rows) == (2, 1)
    assert ledger()[-1] == ("a", "adjusted", 3, 100 * 3000 + 20 * 2000 - COST)
    assert looked().changed == 0


def test_shadows_and_own_credentials_are_corrected_outside_of_budgets(openai):
    Budget.objects.create(amount_nanousd=1)
    price(openai)
    own = {**json.loads(done("b")), "own_credential": True}
    write("s", done("a", route="shadow:x", key_id=None), json.dumps(own).encode() + b"\n", done("c"))
    assert applied().applied_rows == 3
    assert BudgetWindow.objects.get().spent_nanousd == DEARER
    BudgetWindow.objects.all().delete()  # as for a new budget: summed from the ledger
    write("s2", done("d", cost_nanousd=1))
    assert BudgetWindow.objects.get().spent_nanousd == DEARER + 1


def test_too_much_for_a_page_is_refused(openai):
    write("s", done("a"), done("b"))
    since = datetime(2026, 9, 1, tzinfo=UTC)
    run = ReRating(since=since, until=since + timedelta(days=30))
    with pytest.raises(rerating.CannotRerate, match="more than 1 entries"):
        rerating.preview(run, at_most=1)
    assert rerating.preview(run, at_most=2).rows == 2


def test_the_audit_log_tells_of_both_steps(openai):
    price(openai)
    write("s", done("a"))
    run = applied()
    made, finished = LogEntry.objects.get_for_object(run).order_by("pk")
    assert made.changes_dict["difference_nanousd"] == ["None", str(DEARER - COST)]
    assert finished.changes_dict["state"] == ["preview", "applied"]
    assert finished.changes_dict["applied_nanousd"] == ["0", str(DEARER - COST)]
    assert finished.changes_dict["applied_by"] == ["", "me"]


# ---------------------------------------------------------------- manage.py rerate


def command(*arguments):
    out = StringIO()
    call_command("rerate", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_previews_and_applies(key, openai):
    price(openai)
    write("s", done("a", key_id=key.pk, tenant_id=key.tenant_id))
    period = ("--since", "2026-09-21", "--until", "2026-09-21")
    told = command(*period)
    assert "1 attempts, of which 1 cost something else now" in told
    assert "Before $0.000042, difference +$0.000098." in told
    assert "openai/gpt-4o (1)" in told
    assert "Nothing has been changed." in told
    assert len(ledger()) == 1
    assert "Applied: 1 rows, +$0.000098." in command(*period, "--tenant", "acme", "--key", "ci", "--apply")
    found = json.loads(command(*period, "--json"))
    assert (found["rows"], found["changed"], found["state"]) == (1, 0, "preview")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--since", "soon", "--until", "2026-09-21"), "--since must be a date"),
        (("--since", "2026-09-22", "--until", "2026-09-21"), "ends before it begins"),
        (("--since", "2026-09-21", "--until", "2026-09-21", "--key", "x"), "--key: there is none"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, problem):
    with pytest.raises(CommandError, match=problem):
        command(*arguments)
