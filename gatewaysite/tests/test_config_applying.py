"""What applying a file does to the rows, and above all what it does not."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from config.models import ConfigChange, current_version
from config.vault import Vault
from gatewaysite.config_file import apply_text, fields
from gatewaysite.tests.config_files import DESIGN_EXAMPLE, PROVIDER, applied, problems
from keys import secret as secrets
from keys.models import ApiKey, Budget, BudgetWindow, RateLimit, Tenant
from providers.faults import Faults
from providers.models import Credential, Price, Provider
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

pytestmark = pytest.mark.django_db

CHECKOUT = Path(__file__).resolve().parents[2]
DAY = datetime(2027, 1, 1, tzinfo=UTC)


def test_it_applies_the_designs_example_to_the_letter():
    changes = apply_text(DESIGN_EXAMPLE)
    anthropic = Provider.objects.get(name="anthropic")
    assert (anthropic.dialect, anthropic.base_url) == ("anthropic", "https://api.anthropic.com")
    assert (anthropic.credential, anthropic.enabled) == ("${ANTHROPIC_API_KEY}", True)
    assert (anthropic.connect_timeout_s, anthropic.first_content_timeout_s) == (5, 30)
    assert (anthropic.idle_timeout_s, anthropic.total_timeout_s, anthropic.max_connections) == (60, 600, 500)
    row = GatewaySettings.objects.get()
    assert (str(row.default_provider), row.default_model, row.cache_ttl_s) == ("openai", "gpt-4o-mini", 3600)
    route = Route.objects.get()
    assert (route.match, route.kind, route.priority, route.strategy) == ("gpt-4o*", "prefix", 100, "ordered")
    assert list(route.targets.values_list("provider__name", "model", "weight", "position")) == [
        ("openai", "", 1, 0),
        ("anthropic", "claude-haiku-4-5", 1, 1),
    ]
    assert list(CacheExclusion.objects.values_list("kind", "pattern")) == [("regex", ".*-preview$")]
    key = ApiKey.objects.get()
    assert key.digest == hashlib.sha256(b"any-24-chars-or-more").hexdigest()
    assert (key.prefix, key.tenant.name, key.allowed_models) == ("any-", "acme", ["gpt-4o*", "anthropic/*"])
    assert list(key.ratelimits.order_by("pk").values_list("kind", "amount", "per")) == [
        ("requests", 60, "minute"),
        ("tokens", 100000, "minute"),
        ("concurrent", 8, ""),
    ]
    assert list(
        Budget.objects.order_by("pk").values_list("tenant__name", "key__name", "amount_nanousd", "window")
    ) == [
        ("acme", None, 25 * 10**9, "month"),
        (None, "acme-ci", 5 * 10**9, "day"),
    ]
    price = Price.objects.get(source="operator")
    assert (price.provider.name, price.model) == ("openai", "gpt-4o-mini")
    assert (price.input_nanousd_per_mtok, price.output_nanousd_per_mtok) == (150_000_000, 600_000_000)
    assert (price.cached_input_nanousd_per_mtok, price.cache_write_nanousd_per_mtok) == (75_000_000, None)
    assert changes.secrets == {}


def test_it_applies_the_example_file_and_its_example_shows_every_field(monkeypatch):
    text = (CHECKOUT / "config.example.yaml").read_text()
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    changes = apply_text(text)
    assert changes.warnings == [
        "providers[1].api_key: ANTHROPIC_API_KEY is not set: provider anthropic stays disabled until it is",
        "providers[1].api_keys[0]: ANTHROPIC_API_KEY_2 is not set: this key is not used until it is",
        "tenants[0].alert_webhook: ACME_ALERT_WEBHOOK is not set: nothing is sent to it until it is",
    ]
    assert apply_text(text).done == []
    for table in (value for value in vars(fields).values() if isinstance(value, tuple)):
        for field in table:
            assert f"{field.name}:" in text, field.name
    for beside in (
        "api_key",
        "api_keys",
        "timeouts",
        "faults",
        "sticky",
        "targets",
        *fields.CHAINS,
        "exclusions",
        "secret",
        "alert_webhook",
    ):
        assert f"{beside}:" in text


def test_it_changes_nothing_and_bumps_no_version_the_second_time():
    apply_text(DESIGN_EXAMPLE)
    version = current_version()
    assert apply_text(DESIGN_EXAMPLE).done == []
    assert current_version() == version


def test_it_leaves_what_is_not_mentioned_alone():
    apply_text(DESIGN_EXAMPLE)
    Provider.objects.filter(name="openai").update(max_connections=7)
    applied("providers: [{name: openai, enabled: false}]\nkeys: [{name: acme-ci, allowed_models: []}]")
    openai = Provider.objects.get(name="openai")
    assert (openai.enabled, openai.max_connections, openai.credential) == (False, 7, "${OPENAI_API_KEY}")
    key = ApiKey.objects.get()
    assert (key.allowed_models, key.ratelimits.count(), key.budgets.count()) == ([], 3, 1)
    assert Provider.objects.filter(name="anthropic").exists()
    assert Target.objects.count() == 2
    assert GatewaySettings.load().default_model == "gpt-4o-mini"


def test_it_bumps_only_the_parts_that_changed():
    apply_text(DESIGN_EXAMPLE)
    version = current_version()
    applied("keys: [{name: acme-ci, enabled: false}]")
    key = ApiKey.objects.get()
    assert list(ConfigChange.objects.filter(version__gt=version).values_list("part", "ref")) == [
        ("keys", str(key.pk))
    ]


def test_it_changes_nothing_in_a_dry_run():
    changes = apply_text("version: 1\ntenants: [{name: t}]\nkeys: [{name: k, tenant: t}]", dry_run=True)
    assert changes.done == ["tenant t: created", "key k: created"]
    assert changes.secrets == {}  # it will be another one
    assert current_version() == 0
    assert not Tenant.objects.exists()


def test_it_generates_a_secret_once_for_a_key_without_one():
    text = "tenants: [{name: t}]\nkeys: [{name: k, tenant: t}]"
    secret = applied(text).secrets["k"]
    assert secrets.well_formed(secret)
    assert secret.startswith("sk-gw-")
    assert ApiKey.objects.get().digest == secrets.digest(secret).hex()
    assert applied(text).secrets == {}
    assert ApiKey.objects.get().digest == secrets.digest(secret).hex()


def test_it_reads_a_keys_secret_from_a_variable_instead_of_taking_its_name_for_one(monkeypatch):
    monkeypatch.setenv("ACME_SECRET_OF_THE_ENVIRONMENT", "s" * 30)
    applied("tenants: [{name: t}]\nkeys: [{name: k, tenant: t, secret: '${ACME_SECRET_OF_THE_ENVIRONMENT}'}]")
    assert ApiKey.objects.get().digest == hashlib.sha256(b"s" * 30).hexdigest()


def test_it_replaces_a_keys_secret_and_forgets_the_old_prefix():
    applied(f"tenants: [{{name: t}}]\nkeys: [{{name: k, tenant: t, secret: {'s' * 30}}}]")
    applied(f"keys: [{{name: k, secret_sha256: {'A' * 64}}}]")
    key = ApiKey.objects.get()
    assert (key.digest, key.prefix) == ("a" * 64, "")


def test_it_refuses_another_keys_secret():
    applied(f"tenants: [{{name: t}}]\nkeys: [{{name: k, tenant: t, secret: {'s' * 30}}}]")
    assert problems(f"keys: [{{name: l, tenant: t, secret: {'s' * 30}}}]") == [
        "keys[0]: its secret is already that of key k"
    ]


def test_it_rotates_a_key_and_ends_the_overlap():
    old, new = hashlib.sha256(b"o" * 30).hexdigest(), hashlib.sha256(b"n" * 30).hexdigest()
    applied(f"tenants: [{{name: t}}]\nkeys: [{{name: k, tenant: t, secret: {'o' * 30}}}]")
    applied(
        f"keys: [{{name: k, secret: {'n' * 30}, previous_secret_sha256: {old}, previous_until: 2027-01-01}}]"
    )
    key = ApiKey.objects.get()
    assert (key.digest, key.previous_digest, key.previous_until) == (new, old, DAY)
    assert applied("keys: [{name: k, previous_until: 2027-01-01, previous_prefix: oooo}]").done == [
        "key k: changed (previous_prefix)"
    ]
    applied("keys: [{name: k, previous_secret_sha256: null}]")
    key = ApiKey.objects.get()
    assert (key.digest, key.previous_digest, key.previous_prefix, key.previous_until) == (new, None, "", None)


def test_it_refuses_a_secret_that_was_another_keys_before_its_rotation():
    before = "b" * 64
    applied(
        "tenants: [{name: t}]\nkeys: [{name: k, tenant: t, "
        f"secret_sha256: {'a' * 64}, previous_secret_sha256: {before}, previous_until: 2027-01-01}}]"
    )
    assert problems(f"keys: [{{name: l, tenant: t, secret_sha256: {before}}}]") == [
        "keys[0]: its secret is already that of key k"
    ]
    assert problems(
        "keys: [{name: l, tenant: t, "
        f"secret_sha256: {'c' * 64}, previous_secret_sha256: {'a' * 64}, previous_until: 2027-01-01}}]"
    ) == ["keys[0]: its previous secret is already that of key k"]


def test_it_stores_a_webhook_encrypted_and_warns_of_an_unset_one():
    applied("tenants: [{name: t, alert_webhook: 'https://hook.example/very-secret'}]")
    tenant = Tenant.objects.get()
    assert tenant.alert_webhook.startswith("enc:")
    assert applied("tenants: [{name: t, alert_webhook: 'https://hook.example/very-secret'}]").done == []
    assert applied("tenants: [{name: t, alert_webhook: '${NO_SUCH_VARIABLE_HERE}'}]").warnings == [
        "tenants[0].alert_webhook: NO_SUCH_VARIABLE_HERE is not set: nothing is sent to it until it is"
    ]
    assert Tenant.objects.get().alert_webhook == "${NO_SUCH_VARIABLE_HERE}"
    token = Vault(["another"]).seal("https://x")
    assert problems(f"tenants: [{{name: t, alert_webhook: '{token}'}}]") == [
        "tenants[0].alert_webhook: no key in GATEWAY_SECRET_KEYS opens this credential"
    ]


def test_it_keeps_what_a_budget_has_spent_when_its_amount_changes():
    applied("tenants: [{name: t, budgets: [{amount_usd: 5, window: month}, {amount_usd: 1, window: day}]}]")
    monthly = Budget.objects.get(window="month")
    BudgetWindow.objects.create(budget=monthly, starts_at=DAY, spent_nanousd=77)
    applied(
        "tenants: [{name: t, budgets: "
        "[{amount_usd: 9, window: day}, {amount_usd: 50, window: month, mode: soft}]}]"
    )
    monthly.refresh_from_db()
    assert (monthly.amount_nanousd, monthly.mode, monthly.window) == (50 * 10**9, "soft", "month")
    assert monthly.windows.get().spent_nanousd == 77
    assert Budget.objects.count() == 2


def test_it_never_turns_a_daily_budget_into_a_monthly_one():
    applied("budgets: [{amount_usd: 5, window: day}]")
    BudgetWindow.objects.create(budget=Budget.objects.get(), starts_at=DAY, spent_nanousd=77)
    applied("budgets: [{amount_usd: 5, window: month}]")
    assert Budget.objects.get().windows.count() == 0


def test_it_replaces_a_list_whole_and_keeps_the_rows_that_stay():
    applied("rate_limits: [{requests: 1, per: day}, {tokens: 2, per: day, model: 'm*'}, {concurrent: 3}]")
    kept = RateLimit.objects.get(kind="tokens")
    changes = applied(
        "rate_limits: [{tokens: 9, per: day, model: 'm*', enabled: false}, {requests: 1, per: day}]"
    )
    assert changes.done == [
        "everyone: rate limit 3 requests at once removed",
        "everyone: rate limit 9 tokens per day: changed (enabled, amount)",
    ]
    kept.refresh_from_db()
    assert (kept.amount, kept.enabled) == (9, False)
    assert RateLimit.objects.count() == 2


def test_it_tells_limits_of_everyone_from_those_of_tenants_and_keys():
    applied(
        "tenants: [{name: t, rate_limits: [{concurrent: 1}]}]\n"
        "keys: [{name: k, tenant: t, rate_limits: [{concurrent: 2}]}]\n"
        "rate_limits: [{concurrent: 3}]"
    )
    applied("rate_limits: []")
    assert sorted(RateLimit.objects.values_list("amount", flat=True)) == [1, 2]


def test_it_replaces_targets_in_their_order():
    applied(
        f"{PROVIDER}\nroutes: [{{match: m, targets: [{{provider: p, model: a}}, {{provider: p, model: b}}]}}]"
    )
    Target.objects.update(position=5)  # an order by id is an order too
    version = current_version()
    applied("routes: [{match: m, targets: [{provider: p, model: a}, {provider: p, model: b}]}]")
    assert current_version() == version
    applied(
        "routes: [{match: m, targets: [{provider: p, model: b}, {provider: p, model: a}, {provider: p}]}]"
    )
    assert list(Target.objects.values_list("model", flat=True)) == ["b", "a", ""]
    applied("routes: [{match: m, targets: [{provider: p, model: a}]}]")
    assert list(Target.objects.values_list("model", flat=True)) == ["a"]


def test_it_replaces_the_exclusions_and_only_when_they_are_given():
    applied("cache: {exclusions: [{pattern: a}, {pattern: b, note: why}]}")
    applied("cache: {ttl_seconds: 5}")
    assert CacheExclusion.objects.count() == 2
    applied("cache: {exclusions: [{pattern: b}]}")
    assert list(CacheExclusion.objects.values_list("pattern", "note")) == [("b", "")]


def test_it_unsets_what_is_null():
    apply_text(DESIGN_EXAMPLE)
    applied(
        "default_provider: null\ndefault_model: null\ncache: {ttl_seconds: null}\n"
        "providers: [{name: anthropic, api_key: null, timeouts: {total: null}}]\n"
        "keys: [{name: acme-ci, expires_at: null}]"
    )
    row = GatewaySettings.load()
    assert (row.default_provider, row.default_model, row.cache_ttl_s) == (None, "", None)
    anthropic = Provider.objects.get(name="anthropic")
    assert (anthropic.credential, anthropic.total_timeout_s) == ("", None)


def test_it_stores_a_plain_credential_encrypted_and_knows_it_again():
    text = f"{PROVIDER[:-2]}, api_key: sk-plain-text}}]"
    applied(text)
    stored = Provider.objects.get().credential
    assert stored.startswith("enc:")
    assert Provider.objects.get().open_credential() == "sk-plain-text"
    version = current_version()
    assert applied(text).done == []  # although each encryption gives another token
    assert (Provider.objects.get().credential, current_version()) == (stored, version)
    assert applied(f"{PROVIDER[:-2]}, api_key: another}}]").done == ["provider p: changed (credential)"]


def test_it_takes_an_encrypted_credential_as_it_is():
    token = Vault(settings.SECRET_KEYS).seal("sk-secret")
    applied(f"{PROVIDER[:-2]}, api_key: '{token}'}}]")
    assert Provider.objects.get().credential == token


def test_it_replaces_a_credential_that_no_key_opens_any_more():
    applied(PROVIDER)
    Provider.objects.update(credential=Vault(["a lost key"]).seal("old"))
    applied(f"{PROVIDER[:-2]}, api_key: new}}]")
    assert Provider.objects.get().open_credential() == "new"


def test_it_warns_of_an_unset_variable_and_leaves_the_provider_as_given(monkeypatch):
    text = f"{PROVIDER[:-2]}, api_key: '${{SOME_VARIABLE}}'}}]"
    assert applied(text).warnings == [
        "providers[0].api_key: SOME_VARIABLE is not set: provider p stays disabled until it is"
    ]
    assert Provider.objects.get().enabled
    monkeypatch.setenv("SOME_VARIABLE", "x")
    assert applied(text).warnings == []


def test_it_dates_a_price_without_a_date_for_ever():
    text = f"{PROVIDER}\nprices: [{{provider: p, model: m, input_usd_per_mtok: 0.1, output_usd_per_mtok: 0}}]"
    applied(text)
    price = Price.objects.get()
    assert (price.effective_from.year, price.input_nanousd_per_mtok, price.source) == (
        1970,
        10**8,
        "operator",
    )
    applied(text + "\n".replace("0.1", "0.2"))
    assert Price.objects.count() == 1


def test_it_keeps_prices_of_other_dates_and_touches_no_built_in_one():
    apply_text(DESIGN_EXAMPLE)
    builtin = set(Price.objects.filter(source="builtin").values_list("pk", "input_nanousd_per_mtok"))
    assert builtin  # a new provider of a known vendor has prices at once
    applied(
        "prices: [{provider: openai, model: gpt-4o-mini, input_usd_per_mtok: 1, output_usd_per_mtok: 1, "
        "effective_from: 2027-01-01}]"
    )
    assert Price.objects.filter(source="operator").count() == 2
    assert set(Price.objects.filter(source="builtin").values_list("pk", "input_nanousd_per_mtok")) == builtin


def test_it_gives_a_moved_provider_the_prices_of_its_new_vendor():
    apply_text(DESIGN_EXAMPLE)
    applied("providers: [{name: openai, base_url: 'https://api.mistral.ai/v1'}]")
    models = set(
        Price.objects.filter(provider__name="openai", source="builtin").values_list("model", flat=True)
    )
    assert "mistral-large-latest" in models
    assert "gpt-4o" not in models


def test_it_applies_all_or_nothing():
    assert problems("tenants: [{name: fine}]\nkeys: [{name: k, tenant: missing}]")
    assert not Tenant.objects.exists()


def test_it_reads_many_keys_with_few_queries(django_assert_max_num_queries):
    Tenant.objects.create(name="t")
    listed = "".join(f"  - {{name: k{n}, secret_sha256: '{n:064x}'}}\n" for n in range(300))
    applied("keys:\n" + listed.replace("secret", "tenant: t, secret"))
    with django_assert_max_num_queries(20):
        applied("keys:\n" + listed)


# ---------------------------------------------------------------- faults

DEMO = "providers: [{{name: demo-a, dialect: openai, base_url: 'demo://', faults: {}}}]"


def test_it_applies_all_of_a_demos_faults():
    applied(DEMO.format("{percent: 12.5, status: 429, retry_after: 5, latency_ms: 10}"))
    expected = Faults(percent=12.5, status=429, retry_after_s=5, latency_ms=10)
    assert Provider.objects.get().faults == expected
    applied("providers: [{name: demo-a, max_connections: 7}]")
    assert Provider.objects.get().faults == expected
    applied("providers: [{name: demo-a, faults: {ttft_ms: 20, stall_after: 0}}]")
    assert Provider.objects.get().faults == Faults(ttft_ms=20, stall_after=0)


@pytest.mark.parametrize("none", ["{}", "null"])
def test_it_switches_all_faults_off(none):
    applied(DEMO.format("{percent: 50, cut_after: 3}"))
    applied(f"providers: [{{name: demo-a, faults: {none}}}]")
    assert Provider.objects.get().given_faults() == []


def test_it_refuses_to_make_a_failing_demo_a_real_vendor():
    applied(DEMO.format("{cut_after: 3}"))
    moved = "providers: [{name: demo-a, base_url: 'http://real', max_connections: 9%s}]"
    assert problems(moved % "") == [
        "providers[0].base_url: this provider fails on purpose: write `faults: {}` beside it"
    ]
    assert problems(moved % ", faults: {status: 503}") == [
        "providers[0].faults: are for the demo provider alone (base_url: demo://)"
    ]
    applied(moved % ", faults: {}")
    assert Provider.objects.get().base_url == "http://real"


def test_it_refuses_faults_for_a_real_vendor_that_the_file_does_not_describe():
    applied(PROVIDER)
    assert problems("providers: [{name: p, faults: {latency_ms: 1}}]") == [
        "providers[0].faults: are for the demo provider alone (base_url: demo://)"
    ]
    assert applied("providers: [{name: p, faults: {}}]").done == []


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ("5", "faults: must be a mapping of fields"),
        ("{statuss: 503}", "faults.statuss: unknown field, did you mean status?"),
        ("{percent: 101}", "faults.percent: ensure this value is less than or equal to 100"),
        ("{percent: half}", "faults.percent: must be a number of percent"),
        ("{percent: true}", "faults.percent: must be a number of percent"),
        ("{status: 200}", "faults.status: must be 400 or more"),
        ("{status: 600}", "faults.status: must be 599 or less"),
        ("{retry_after: 100000}", "faults.retry_after: ensure this value is less than or equal to 86400"),
        ("{latency_ms: -1}", "faults.latency_ms: must be 0 or more"),
        ("{ttft_ms: null}", "faults.ttft_ms: must be a whole number"),
        ("{cut_after: 1.5}", "faults.cut_after: must be a whole number"),
        (
            "{cut_after: 1, stall_after: 1}",
            "faults.stall_after: cannot be given together with cut after",
        ),
    ],
)
def test_it_says_where_faults_are_wrong(faults, problem):
    assert problems(DEMO.format(faults)) == [f"providers[0].{problem}"]


# ---------------------------------------------------------------- further credentials

UNSET = "NO_SUCH_VARIABLE_HERE"


def with_keys(keys, own="api_key: null"):
    return f"{PROVIDER[:-2]}, {own}, api_keys: {keys}}}]"


def credentials():
    return list(Credential.objects.values_list("name", "enabled"))


def test_it_reads_further_keys_as_texts_references_and_mappings(monkeypatch):
    monkeypatch.setenv(UNSET, "from-env")
    applied(with_keys(f"[plain-text, '${{{UNSET}}}', {{name: b, api_key: other, enabled: false}}]"))
    assert credentials() == [("key-2", True), (UNSET, True), ("b", False)]
    rows = list(Credential.objects.all())
    assert [row.open_credential() for row in rows] == ["plain-text", "from-env", "other"]
    assert [row.credential[:4] for row in rows] == ["enc:", "${NO", "enc:"]


def test_it_changes_no_further_key_the_second_time_and_only_those_that_differ():
    text = with_keys("[one-key, two-key]")
    applied(text)
    version = current_version()
    assert applied(text).done == []
    assert current_version() == version
    changes = applied(with_keys("[one-key, other-key, {name: c, api_key: third}]"))
    assert changes.done == [
        "provider p: credential key-3: changed (credential)",
        "provider p: credential c: created",
    ]
    assert applied(with_keys("[one-key]")).done == [
        "provider p: credential key-3 removed",
        "provider p: credential c removed",
    ]


def test_it_keeps_the_secrets_of_keys_that_only_change_places():
    applied(with_keys("[{name: a, api_key: one-key}, {name: b, api_key: two-key}]"))
    applied(with_keys("[{name: b}, {name: a}]"))
    assert [(row.name, row.open_credential()) for row in Credential.objects.all()] == [
        ("b", "two-key"),
        ("a", "one-key"),
    ]


def test_it_leaves_further_keys_alone_that_are_not_mentioned_and_empties_the_list():
    applied(with_keys("[one-key]"))
    applied("providers: [{name: p, enabled: false}]")
    assert credentials() == [("key-2", True)]
    applied("providers: [{name: p, api_keys: []}]")
    assert credentials() == []


@pytest.mark.parametrize(
    ("own", "warning"),
    [
        (f"api_key: '${{{UNSET}}}'", f"providers[0].api_key: {UNSET} is not set: provider p is asked by its"),
        ("api_key: null", ""),
    ],
)
def test_it_says_that_a_provider_goes_by_its_further_keys(own, warning):
    warnings = applied(with_keys("[one-key]", own)).warnings
    assert [each[: len(warning)] for each in warnings] == ([warning] if warning else [])


def test_it_warns_of_further_keys_that_are_not_set():
    (warning,) = applied(with_keys(f"['${{{UNSET}}}']")).warnings
    assert warning == f"providers[0].api_keys[0]: {UNSET} is not set: this key is not used until it is"


# ---------------------------------------------------------------- how routes treat their targets


def routed(fields, targets="[{provider: p, model: a}]"):
    return applied(f"{PROVIDER}\nroutes: [{{match: m, targets: {targets}, {fields}}}]")


def targets(*columns):
    return list(Target.objects.order_by("position").values_list("role", "model", *columns))


def test_it_applies_what_a_route_says():
    routed(
        "timeouts: {connect: 1.5, first_content: 2, idle: 3, total: 4}, sticky: {header: X-Session}, "
        "hedge: true, continue_streams: true"
    )
    route = Route.objects.get()
    assert (route.connect_timeout_s, route.first_content_timeout_s) == (1.5, 2)
    assert (route.idle_timeout_s, route.total_timeout_s) == (3, 4)
    assert (route.sticky, route.sticky_header) == ("header", "X-Session")
    assert (route.hedge, route.continue_streams) == (True, True)
    routed("timeouts: {connect: null}, sticky: user, hedge: false")
    route.refresh_from_db()
    assert (route.connect_timeout_s, route.idle_timeout_s, route.sticky) == (None, 3, "user")
    assert (route.hedge, route.continue_streams) == (False, True)
    routed("sticky: null")
    route.refresh_from_db()
    assert route.sticky == ""


def test_it_applies_targets_of_every_role():
    routed(
        "on_context_overflow: [{provider: p, model: o, context_window: 9}], "
        "on_content_filter: [{provider: p, model: f}], "
        "shadow: [{provider: p, model: s, percent: 2.5, budget_usd_per_day: 1.25}, {provider: p, model: t}]",
        "[{provider: p, model: a, weight: 2, context_window: 8}, {provider: p, model: c, canary: 5}]",
    )
    assert targets("weight", "percent", "shadow_budget_nanousd_per_day", "context_window") == [
        ("normal", "a", 2, None, None, 8),
        ("canary", "c", 1, 5, None, None),
        ("on_context_overflow", "o", 1, None, None, 9),
        ("on_content_filter", "f", 1, None, None, None),
        ("shadow", "s", 1, 2.5, 1_250_000_000, None),
        ("shadow", "t", 1, None, None, None),
    ]


def test_it_replaces_each_list_of_targets_by_itself():
    routed("on_content_filter: [{provider: p, model: f}], shadow: [{provider: p, model: s}]")
    version = current_version()
    assert routed("shadow: [{provider: p, model: s}]").done == []
    assert current_version() == version
    routed("shadow: []")
    assert targets() == [("normal", "a"), ("on_content_filter", "f")]
    applied("routes: [{match: m, on_content_filter: [{provider: p, model: g}, {provider: p, model: f}]}]")
    assert targets() == [("normal", "a"), ("on_content_filter", "g"), ("on_content_filter", "f")]
    routed("note: x", "[{provider: p, model: b, canary: 1}]")
    assert targets()[0] == ("canary", "b")


def test_it_applies_weights_lines_and_windows():
    applied(
        f"{PROVIDER[:-2]}, max_concurrency: 20, max_queue: 0, queue_timeout: 1.5}}]\n"
        "tenants: [{name: t, queue_weight: 7}]\n"
        "prices: [{provider: p, model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 1, context_window: 9}]"
    )
    provider = Provider.objects.get()
    assert (provider.max_concurrency, provider.max_queue, provider.queue_timeout_s) == (20, 0, 1.5)
    assert Tenant.objects.get().queue_weight == 7
    assert Price.objects.get().context_window == 9
    applied("providers: [{name: p, max_concurrency: null}]")
    assert Provider.objects.get().max_concurrency is None
