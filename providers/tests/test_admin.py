import json
import re
from datetime import UTC, datetime
from html import unescape

import pytest
from auditlog.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from config.models import current_version
from config.tests.admin_kit import inlines, messages_in, operator, page, signed_in, statements
from providers.models import Credential, Price, Provider, ProviderModel
from providers.tests.test_probe import vendor_server

pytestmark = pytest.mark.django_db

LIST = "/admin/providers/provider/"
SECRET = "sk-live-very-secret-0123456789"


@pytest.fixture
def client():
    return operator()


@pytest.fixture
def vendor():
    with vendor_server() as running:
        running.lists("small", "large")
        yield running


def make(name="acme", url="https://vendor.example/v1", *, secret=SECRET, **fields):
    made = Provider(name=name, dialect="openai", base_url=url, **fields)
    made.set_credential(secret)
    made.save()
    return made


def form(**changes):
    return {
        "name": "acme",
        "dialect": "openai",
        "base_url": "https://vendor.example/v1",
        "enabled": "on",
        "new_credential": "",
        "auth_header": "",
        "extra_headers": "",
        "connect_timeout_s": "5",
        "first_content_timeout_s": "",
        "idle_timeout_s": "60",
        "total_timeout_s": "",
        "max_connections": "500",
        "max_queue": "100",
        "queue_timeout_s": "30",
        **inlines("further_credentials"),
        **changes,
    }


def change(provider):
    return reverse("admin:providers_provider_change", args=[provider.pk])


def save(client, provider, **changes):
    response = client.post(change(provider), form(name=provider.name, **changes))
    assert response.status_code == 302, messages_in(response.content.decode())
    provider.refresh_from_db()
    return provider


# ---------------------------------------------------------------- quirks


def test_it_keeps_quirks_and_a_path_template(client):
    quirks = {"rename_params": {"max_completion_tokens": "max_tokens"}, "completions": False}
    template = "/openai/deployments/{model}{path}?api-version=2024-10-21"
    saved = save(client, make(), quirks=json.dumps(quirks), path_template=template)
    assert (saved.quirks, saved.path_template) == (quirks, template)
    shown = client.get(change(saved)).content.decode()
    assert "max_completion_tokens" in shown
    assert template in shown


@pytest.mark.parametrize("text", ["", "  ", "null", " {} "])
def test_it_takes_nothing_for_no_quirks(client, text):
    assert save(client, make(quirks={"responses": False}), quirks=text).quirks == {}


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("quirks", "{completions: false}", "Enter a valid JSON."),
        ("quirks", "[]", "must be an object"),
        ("quirks", '{"max_tokens": 1}', "has no field"),
        ("quirks", '{"completions": "no"}', "completions must be true or false"),
        ("quirks", '{"unsupported_params": ["model"]}', "unsupported_params must not name"),
        ("path_template", "/fixed", "must contain {path}"),
        ("path_template", "/{name}{path}", "knows {model} and {path}"),
        ("path_template", "x{path}", "must start with"),
    ],
)
def test_it_says_at_the_field_what_is_wrong(client, field, text, words):
    provider = make()
    response = client.post(change(provider), form(**{field: text}))
    assert response.status_code == 200
    errors = response.context["adminform"].form.errors
    assert list(errors) == [field]
    assert words in errors[field][0]


# ---------------------------------------------------------------- credential


def test_it_stores_a_new_credential_encrypted_and_never_shows_it(client):
    response = client.post(f"{LIST}add/", form(new_credential=SECRET))
    assert response.status_code == 302
    stored = Provider.objects.get()
    assert stored.open_credential() == SECRET
    assert SECRET not in stored.credential
    html = page(client, change(stored))
    assert "stored, encrypted" in html
    assert SECRET not in html
    assert stored.credential not in html
    assert SECRET not in page(client, LIST)


def test_it_leaves_the_credential_alone_when_the_field_is_empty(client):
    stored = save(client, make(), auth_header="api-key")
    assert stored.auth_header == "api-key"
    assert stored.open_credential() == SECRET


def test_it_replaces_the_credential(client):
    stored = save(client, make(), new_credential="another-key-987")
    assert stored.open_credential() == "another-key-987"


def test_it_forgets_the_credential(client):
    stored = save(client, make(), clear_credential="on")
    assert stored.credential == ""
    assert "none" in messages_in(page(client, change(stored)))


def test_it_refuses_a_new_credential_and_none_at_once(client):
    provider = make()
    response = client.post(change(provider), form(new_credential="x-key-12345", clear_credential="on"))
    assert "Either write a new key or forget" in response.content.decode()
    assert b"x-key-12345" not in response.content


def test_it_sends_a_stored_credential_to_no_other_host(client):
    provider = make()
    response = client.post(change(provider), form(base_url="https://thief.example/v1"))
    assert "The key was stored for another host" in response.content.decode()
    provider.refresh_from_db()
    assert provider.base_url == "https://vendor.example/v1"
    assert save(client, provider, base_url="https://vendor.example/v2").base_url.endswith("/v2")
    moved = save(client, provider, base_url="https://other.example/v1", new_credential="another-key-987")
    assert moved.open_credential() == "another-key-987"


def test_it_moves_a_provider_without_a_credential_freely(client):
    moved = save(client, make(secret=""), base_url="https://other.example/v1")
    assert moved.base_url == "https://other.example/v1"


@pytest.mark.parametrize("slip", ["two words", "tab\tinside", "ünicode-key", "zero\u200bwidth"])
def test_it_refuses_a_credential_that_no_header_carries(client, slip):
    response = client.post(f"{LIST}add/", form(new_credential=slip))
    assert response.status_code == 200
    assert "no spaces, line breaks" in response.content.decode()
    assert not Provider.objects.exists()


def test_it_keeps_a_reference_and_warns_when_it_is_not_set(client, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    response = client.post(f"{LIST}add/", form(new_credential="${NO_SUCH_KEY}"), follow=True)
    assert Provider.objects.get().credential == "${NO_SUCH_KEY}"
    text = messages_in(response.content.decode())
    assert "NO_SUCH_KEY is not set" in text
    assert "from ${NO_SUCH_KEY} (not set)" in text


# ---------------------------------------------------------------- further credentials

FURTHER = "sk-further-very-secret-0123456789"


def add_further(provider, name="team-b", secret=FURTHER, **fields):
    row = Credential(provider=provider, name=name, **fields)
    row.set_credential(secret)
    row.save()
    return row


def further(*rows, initial=0):
    filled = [{"enabled": "on", "position": "0", "new_credential": "", **row} for row in rows]
    return inlines("further_credentials", filled, initial=initial)


def stored(row, **changes):
    return {"id": row.pk, "provider": row.provider_id, "name": row.name, **changes}


def formset_errors(response):
    (formset,) = [each.formset for each in response.context["inline_admin_formsets"]]
    return formset.errors


def test_it_stores_further_credentials_encrypted_and_never_shows_them(client):
    rows = further(
        {"name": "team-b", "new_credential": FURTHER, "position": "1"},
        {"name": "team-c", "new_credential": "${NO_SUCH_KEY}"},
    )
    response = client.post(f"{LIST}add/", form(new_credential=SECRET, **rows))
    assert response.status_code == 302, messages_in(response.content.decode())
    provider = Provider.objects.get()
    assert [each.name for each in provider.further_credentials.all()] == ["team-c", "team-b"]
    row = provider.further_credentials.get(name="team-b")
    assert (row.open_credential(), row.credential[:4]) == (FURTHER, "enc:")
    html = page(client, change(provider))
    assert FURTHER not in html
    assert row.credential not in html
    text = messages_in(html)
    assert "stored, encrypted" in text
    assert "from ${NO_SUCH_KEY} (not set)" in text


def test_it_leaves_a_further_credential_alone_when_its_field_is_empty(client):
    row = add_further(make())
    version = current_version()
    save(client, row.provider, **further(stored(row), initial=1))
    assert current_version() == version
    save(client, row.provider, **further(stored(row, name="renamed"), initial=1))
    row.refresh_from_db()
    assert (row.name, row.open_credential()) == ("renamed", FURTHER)
    save(client, row.provider, **further(stored(row, new_credential="another-key-987"), initial=1))
    row.refresh_from_db()
    assert row.open_credential() == "another-key-987"


def test_it_deletes_a_further_credential(client):
    row = add_further(make())
    save(client, row.provider, **further(stored(row, DELETE="on"), initial=1))
    assert not Credential.objects.exists()


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        ({"name": "b"}, "new_credential", "Write the key"),
        ({"name": "b", "new_credential": "two words"}, "new_credential", "no spaces, line breaks"),
        ({"name": "", "new_credential": "a-key-123"}, "name", "required"),
    ],
)
def test_it_says_at_the_field_what_a_further_credential_lacks(client, row, column, words):
    response = client.post(change(make()), form(**further(row)))
    (errors,) = formset_errors(response)
    assert list(errors) == [column]
    assert words in errors[column][0]
    assert not Credential.objects.exists()


def test_it_sends_no_further_credential_to_another_host(client):
    provider = make(secret="")
    row, gone = add_further(provider), add_further(provider, "gone")
    moved = {"base_url": "https://thief.example/v1"}
    kept = further(stored(row), stored(gone, DELETE="on"), initial=2)
    response = client.post(change(provider), form(**moved, **kept))
    assert "The key was stored for another host: write it again." in response.content.decode()
    provider.refresh_from_db()
    assert provider.base_url == "https://vendor.example/v1"
    new = further(stored(row, new_credential="another-key-987"), stored(gone, DELETE="on"), initial=2)
    assert save(client, provider, **moved, **new).base_url == moved["base_url"]
    assert Credential.objects.get().open_credential() == "another-key-987"


def test_it_moves_no_provider_past_its_further_credentials():
    """Whoever may change a provider has their rows in the form: a move without them is refused."""
    provider = make(secret="")
    add_further(provider)
    client = signed_in("providers.view_provider", "providers.change_provider")
    assert 'name="further_credentials-0-new_credential"' in page(client, change(provider))
    moved = form(base_url="https://thief.example/v1")
    for left_out in ("TOTAL_FORMS", "INITIAL_FORMS"):
        del moved[f"further_credentials-{left_out}"]
    client.post(change(provider), moved)
    provider.refresh_from_db()
    assert provider.base_url == "https://vendor.example/v1"


def test_it_moves_no_provider_when_its_further_credentials_are_left_out_of_the_form(client):
    provider = make(secret="")
    add_further(provider)
    client.post(change(provider), form(base_url="https://thief.example/v1"))
    provider.refresh_from_db()
    assert provider.base_url == "https://vendor.example/v1"


def test_it_shows_further_credentials_to_those_who_may_only_look():
    add_further(make())
    html = page(signed_in("providers.view_provider"), change(Provider.objects.get()))
    assert "team-b" in html
    assert "new_credential" not in html


def test_it_audits_further_credentials_without_their_secrets(client):
    provider = make()
    save(client, provider, **further({"name": "team-b", "new_credential": FURTHER}))
    row = Credential.objects.get()
    save(client, provider, **further(stored(row, new_credential="another-key-987"), initial=1))
    entries = list(LogEntry.objects.filter(content_type__model="credential").order_by("id"))
    assert [entry.action for entry in entries] == [LogEntry.Action.CREATE, LogEntry.Action.UPDATE]
    assert entries[1].changes_dict == {"credential": ["(hidden)", "(hidden)"]}
    logged = json.dumps([[entry.changes, entry.object_repr] for entry in entries])
    for secret in (FURTHER, "another-key-987", "enc:"):
        assert secret not in logged


def test_it_opens_a_form_of_many_credentials_with_as_many_queries_as_few(client):
    provider = make()
    add_further(provider)
    few = len(statements(client, change(provider)))
    for number in range(10):
        add_further(provider, f"n{number}")
    assert len(statements(client, change(provider))) == few


def test_it_saves_how_many_calls_a_provider_takes(client):
    saved = save(client, make(), max_concurrency="20", max_queue="0", queue_timeout_s="1.5")
    assert (saved.max_concurrency, saved.max_queue, saved.queue_timeout_s) == (20, 0, 1.5)
    assert save(client, saved).max_concurrency is None


# ---------------------------------------------------------------- saving


def test_it_saves_headers_written_as_lines(client):
    stored = save(client, make(), extra_headers="OpenAI-Organization: org-1\nx-team:blue\n")
    assert stored.extra_headers == {"OpenAI-Organization": "org-1", "x-team": "blue"}
    assert "OpenAI-Organization: org-1" in page(client, change(stored))


def test_it_names_the_line_of_a_header_that_is_none(client):
    provider = make()
    response = client.post(change(provider), form(extra_headers="fine: yes\nnot a header"))
    assert "Line 2 is not of the form" in response.content.decode()


def test_it_bumps_the_version_with_a_change_and_only_then(client):
    provider = make()
    version = current_version()
    save(client, provider)
    assert current_version() == version
    save(client, provider, max_connections="7")
    assert current_version() == version + 1


def test_it_never_writes_back_what_the_background_has_written_meanwhile(client, monkeypatch):
    provider = make()
    seen = timezone.now()
    original = Provider.save

    def save_late(self, **options):
        Provider.objects.filter(pk=self.pk).update(models_refreshed_at=seen, models_error="meanwhile")
        original(self, **options)

    monkeypatch.setattr(Provider, "save", save_late)
    stored = save(client, provider, max_connections="7")
    assert (stored.max_connections, stored.models_error) == (7, "meanwhile")
    assert stored.models_refreshed_at == seen


def test_it_audits_a_change_without_the_credential(client):
    client.post(f"{LIST}add/", form(new_credential=SECRET, extra_headers="x-auth: team-secret"))
    save(client, Provider.objects.get(), new_credential="another-key-987", max_connections="7")
    entries = list(LogEntry.objects.filter(content_type__model="provider").order_by("id"))
    assert [entry.action for entry in entries] == [LogEntry.Action.CREATE, LogEntry.Action.UPDATE]
    assert all(entry.actor is not None for entry in entries)
    assert entries[1].changes_dict["max_connections"] == ["500", "7"]
    assert entries[1].changes_dict["credential"] == ["(hidden)", "(hidden)"]
    logged = json.dumps([[entry.changes, entry.object_repr] for entry in entries])
    for secret in (SECRET, "another-key-987", "team-secret", "enc:"):
        assert secret not in logged


# ---------------------------------------------------------------- test this provider


def test_it_tests_a_provider_with_a_real_request(client, vendor):
    provider = make(url=vendor.url)
    url = reverse("admin:providers_provider_test_provider", args=[provider.pk])
    text = messages_in(
        client.post(url, {"_form_submitted": "True"}, headers={"HX-Request": "true"}).content.decode()
    )
    assert "acme answers." in text
    assert "2 models found." in text
    assert "large" in text
    assert " ms" in text
    assert vendor.seen[0][1]["authorization"] == f"Bearer {SECRET}"


def test_it_asks_no_vendor_before_the_dialog_is_posted(client, vendor):
    provider = make(url=vendor.url)
    assert "Test this provider" in page(client, change(provider))
    page(client, reverse("admin:providers_provider_test_provider", args=[provider.pk]))
    assert vendor.seen == []


def test_it_shows_the_vendors_error_without_the_credential(client, vendor):
    provider = make(url=vendor.url)
    vendor.status = 401
    vendor.body = json.dumps({"error": {"message": f"Incorrect key <b>{SECRET}</b>"}}).encode()
    url = reverse("admin:providers_provider_test_provider", args=[provider.pk])
    html = client.post(url, {"_form_submitted": "True"}).content.decode()
    assert "Status 401: Incorrect key &lt;b&gt;[hidden]&lt;/b&gt;" in html
    assert SECRET not in html


def test_it_tests_several_providers_at_once(client, vendor):
    make("one", vendor.url)
    make("demo", "demo://")
    response = client.post(
        LIST,
        {"action": "test_selected", "_selected_action": list(Provider.objects.values_list("pk", flat=True))},
    )
    text = messages_in(response.content.decode())
    assert "one answers." in text
    assert "demo answers." in text


@pytest.mark.parametrize("permissions", [("providers.view_provider",), ("keys.change_apikey",)])
def test_it_tests_nothing_for_those_who_may_not_change_providers(vendor, permissions):
    provider = make(url=vendor.url)
    client = signed_in(*permissions)
    url = reverse("admin:providers_provider_test_provider", args=[provider.pk])
    assert client.post(url, {"_form_submitted": "True"}).status_code == 403
    client.post(LIST, {"action": "test_selected", "_selected_action": [provider.pk]})
    assert vendor.seen == []


def test_it_is_404_to_test_a_provider_that_is_gone(client):
    url = reverse("admin:providers_provider_test_provider", args=[12345])
    assert client.post(url, {"_form_submitted": "True"}).status_code == 404


# ---------------------------------------------------------------- lists


def test_it_switches_providers_off_and_audits_each(client):
    made = [make(f"p{number}") for number in range(3)]
    Provider.objects.filter(pk=made[2].pk).update(enabled=False)
    version = current_version()
    response = client.post(
        LIST, {"action": "disable_selected", "_selected_action": [each.pk for each in made]}, follow=True
    )
    assert "2 providers disabled." in messages_in(response.content.decode())
    assert not Provider.objects.filter(enabled=True).exists()
    assert current_version() == version + 2
    assert LogEntry.objects.filter(action=LogEntry.Action.UPDATE).count() == 2


def test_it_lists_many_rows_with_as_many_queries_as_few(client):
    def fill(numbers):
        for number in numbers:
            provider = make(f"p{number}")
            ProviderModel.objects.create(provider=provider, name="m")
            Price.objects.create(
                provider=provider, model="m", input_nanousd_per_mtok=1, output_nanousd_per_mtok=1
            )

    urls = [LIST, "/admin/providers/price/", "/admin/providers/providermodel/"]
    fill(range(2))
    few = [len(statements(client, url)) for url in urls]
    fill(range(2, 30))
    assert [len(statements(client, url)) for url in urls] == few


def test_it_counts_models_and_prices_right(client):
    provider = make()
    for name in ("a", "b", "c"):
        ProviderModel.objects.create(provider=provider, name=name)
    for name in ("a", "b"):
        Price.objects.create(
            provider=provider, model=name, input_nanousd_per_mtok=1, output_nanousd_per_mtok=1
        )
    text = messages_in(page(client, change(provider)))
    assert "3 models" in text
    assert "2 prices" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "vendor.example"}, {"good", "bad", "new"}),
        ({"q": "goo"}, {"good"}),
        ({"model_list": "ok"}, {"good"}),
        ({"model_list": "failed"}, {"bad"}),
        ({"model_list": "never"}, {"new"}),
        ({"enabled__exact": "0"}, {"new"}),
    ],
)
def test_it_filters_providers(client, query, found):
    make("good", models_refreshed_at=timezone.now())
    make("bad", models_refreshed_at=timezone.now(), models_error="down")
    make("new", enabled=False)
    html = page(client, LIST, **query)
    assert {name for name in ("good", "bad", "new") if f">{name}</a>" in html} == found


# ---------------------------------------------------------------- prices


def price(**fields):
    provider = Provider.objects.first() or make()
    rates = {"input_nanousd_per_mtok": 150_000_000, "output_nanousd_per_mtok": 600_000_000}
    return Price.objects.create(**{"provider": provider, "model": "gpt-4o-mini", **rates, **fields})


def test_it_reads_and_writes_prices_in_dollars(client):
    row = price(cached_input_nanousd_per_mtok=75_000_000)
    url = reverse("admin:providers_price_change", args=[row.pk])
    html = page(client, url)
    assert 'value="0.15"' in html
    moment = timezone.now()
    response = client.post(
        url,
        {
            "provider": row.provider_id,
            "model": row.model,
            "effective_from_0": moment.date(),
            "effective_from_1": "00:00:00",
            "input_nanousd_per_mtok": "0.125",
            "output_nanousd_per_mtok": "0.6",
            "cached_input_nanousd_per_mtok": "",
            "cache_write_nanousd_per_mtok": "",
        },
    )
    assert response.status_code == 302, messages_in(response.content.decode())
    row.refresh_from_db()
    assert row.input_nanousd_per_mtok == 125_000_000
    assert row.cached_input_nanousd_per_mtok is None


TIERS = [{"above_prompt_tokens": 200_000, "input": 300_000_000, "output": 10**9}]
TYPED = "above 200000: input 0.3, output 1"


def price_form(row, **fields):
    return {
        "provider": row.provider_id,
        "model": row.model,
        **{f"{initial}effective_from_0": "2026-01-01" for initial in ("", "initial-")},
        **{f"{initial}effective_from_1": "00:00:00" for initial in ("", "initial-")},
        "input_nanousd_per_mtok": "0.15",
        "output_nanousd_per_mtok": "0.6",
        **fields,
    }


def test_it_reads_and_writes_the_rates_of_parts_and_of_long_prompts(client):
    row = price()
    url = reverse("admin:providers_price_change", args=[row.pk])
    typed = {
        "cache_write_1h_nanousd_per_mtok": "0.3",
        "reasoning_nanousd_per_mtok": "0.7",
        "audio_input_nanousd_per_mtok": "10",
        "cached_audio_input_nanousd_per_mtok": "1",
        "audio_output_nanousd_per_mtok": "20",
        "image_input_nanousd_per_mtok": "2",
        "cached_image_input_nanousd_per_mtok": "0.2",
        "image_output_nanousd_per_mtok": "40",
        "max_output_tokens": "16384",
    }
    response = client.post(url, price_form(row, **typed, tiers=TYPED))
    assert response.status_code == 302, messages_in(response.content.decode())
    row.refresh_from_db()
    assert row.tiers == TIERS
    assert row.max_output_tokens == 16_384
    assert row.cached_audio_input_nanousd_per_mtok == 10**9
    html = page(client, url)
    assert TYPED in html
    for name, value in typed.items():
        assert re.search(rf'name="{name}"[^>]*value="{value}"|value="{value}"[^>]*name="{name}"', html), name
    assert TYPED in page(client, "/admin/providers/price/")


def test_it_changes_no_tiers_that_are_typed_with_other_spaces(client):
    row = price(tiers=TIERS, effective_from=datetime(2026, 1, 1, tzinfo=UTC))
    url = reverse("admin:providers_price_change", args=[row.pk])
    version = current_version()
    typed = "\n  above 200,000 :  input $0.30,  output 1.00\n"
    assert client.post(url, price_form(row, tiers=typed)).status_code == 302
    assert current_version() == version
    assert client.post(url, price_form(row, tiers="")).status_code == 302
    row.refresh_from_db()
    assert row.tiers == []


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("above 200000: input 0.3\nmore: input 1", "Line 2: must be as"),
        ("\nabove 200000: inputs 0.3", "Line 2: 'inputs 0.3' is not a rate and its dollars"),
        ("above 5: input 1\nabove 4: input 2", "Tiers must rise: 4 comes after 5."),
    ],
)
def test_it_says_which_line_of_tiers_is_wrong_and_keeps_what_was_typed(client, typed, problem):
    row = price(tiers=TIERS)
    url = reverse("admin:providers_price_change", args=[row.pk])
    response = client.post(url, price_form(row, tiers=typed))
    assert response.status_code == 200
    html = unescape(response.content.decode())
    assert problem in html
    assert typed.strip() in html
    row.refresh_from_db()
    assert row.tiers == TIERS


def test_it_shows_the_tiers_of_builtin_prices_as_lines(client):
    row = price(source="builtin", tiers=TIERS, audio_input_nanousd_per_mtok=10**10)
    html = page(client, reverse("admin:providers_price_change", args=[row.pk]))
    assert TYPED in html
    assert "above_prompt_tokens" not in html
    assert "$10.00" in html


def test_it_protects_builtin_prices(client):
    row = price(source="builtin")
    url = reverse("admin:providers_price_change", args=[row.pk])
    html = page(client, url)
    assert "$0.15" in html
    assert "150000000" not in html
    assert client.post(url, {"model": "x"}).status_code == 403
    assert client.post(reverse("admin:providers_price_delete", args=[row.pk])).status_code == 403
    client.post(
        "/admin/providers/price/",
        {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"},
    )
    row.refresh_from_db()
    assert row.model == "gpt-4o-mini"


def test_it_copies_a_builtin_price_to_an_operators_row(client):
    row = price(
        source="builtin", cached_input_nanousd_per_mtok=75_000_000, context_window=128_000, tiers=TIERS
    )
    response = client.get(reverse("admin:providers_price_copy_price", args=[row.pk]))
    assert response.status_code == 302
    html = page(client, response["Location"])
    for value in ('value="gpt-4o-mini"', 'value="0.15"', 'value="0.6"', 'value="0.075"', 'value="128000"'):
        assert value in html
    assert TYPED in html
    fields = {
        "provider": row.provider_id,
        "model": row.model,
        "effective_from_0": "2026-01-01",
        "effective_from_1": "00:00:00",
        "input_nanousd_per_mtok": "0.15",
        "output_nanousd_per_mtok": "0.6",
    }
    assert client.post("/admin/providers/price/add/", fields).status_code == 302
    assert set(Price.objects.values_list("source", flat=True)) == {"builtin", "operator"}


def test_it_deletes_a_provider_with_its_builtin_prices_and_models(client):
    row = price(source="builtin")
    ProviderModel.objects.create(provider=row.provider, name="m")
    url = reverse("admin:providers_provider_delete", args=[row.provider_id])
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not Provider.objects.exists()
    assert not Price.objects.exists()


def test_it_lets_nobody_write_the_models_of_vendors(client):
    ProviderModel.objects.create(provider=make(), name="m")
    row = ProviderModel.objects.get()
    assert client.get("/admin/providers/providermodel/add/").status_code == 403
    assert client.post(reverse("admin:providers_providermodel_delete", args=[row.pk])).status_code == 403
    assert client.post(reverse("admin:providers_providermodel_change", args=[row.pk]), {}).status_code == 403
