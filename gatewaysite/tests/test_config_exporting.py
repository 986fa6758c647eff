"""The round trip is the identity: in bytes on an empty database, in rows on the same one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.models import current_version
from gatewaysite.config_file import apply_text, export
from gatewaysite.config_file.exporting import Inline, dump
from gatewaysite.config_file.problems import Problems
from gatewaysite.config_file.yamltext import read_yaml
from gatewaysite.tests.config_files import DESIGN_EXAMPLE, PROVIDER, applied
from keys.models import ApiKey, Budget, RateLimit, Tenant
from providers.models import Credential, Price, Provider, vault
from proxy.models import CacheExclusion, GatewaySettings, Route, Target

pytestmark = pytest.mark.django_db

EXAMPLE = (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text()
MODELS = (Target, Route, CacheExclusion, GatewaySettings, Budget, RateLimit, ApiKey, Tenant, Price, Provider)


def emptied() -> None:
    for model in MODELS:
        model.objects.all().delete()


@pytest.mark.parametrize("text", [DESIGN_EXAMPLE, EXAMPLE, "version: 1"])
def test_it_gives_the_same_bytes_again_from_an_empty_database(text):
    apply_text(text)
    exported = export()
    emptied()
    apply_text(exported)
    assert export() == exported


@pytest.mark.parametrize("text", [DESIGN_EXAMPLE, EXAMPLE])
def test_it_changes_nothing_when_applied_where_it_came_from(text):
    apply_text(text)
    version = current_version()
    assert apply_text(export()).done == []
    assert apply_text(export(with_secrets=True)).done == []
    assert current_version() == version


def test_it_brings_quirks_and_path_templates_through():
    text = (
        "version: 1\n"
        "providers:\n"
        "  - name: azure\n"
        "    dialect: openai\n"
        "    base_url: https://x.openai.azure.com\n"
        "    path_template: '/openai/deployments/{model}{path}?api-version=2024-10-21'\n"
        "    quirks:\n"
        "      rename_params: {max_completion_tokens: max_tokens}\n"
        "      unsupported_params: [n, logit_bias]\n"
        "      developer_role: system\n"
        "      stream_usage: false\n"
        "      responses: false\n"
        "      reasoning_content: true\n"
    )
    apply_text(text)
    provider = Provider.objects.get()
    assert provider.path_template == "/openai/deployments/{model}{path}?api-version=2024-10-21"
    assert provider.quirks == {
        "rename_params": {"max_completion_tokens": "max_tokens"},
        "unsupported_params": ["n", "logit_bias"],
        "developer_role": "system",
        "stream_usage": False,
        "responses": False,
        "reasoning_content": True,
    }
    exported = export()
    assert apply_text(exported).done == []
    emptied()
    apply_text(exported)
    assert export() == exported
    apply_text("version: 1\nproviders: [{name: azure, quirks: null, path_template: ''}]")
    cleared = Provider.objects.get()
    assert (cleared.quirks, cleared.path_template) == ({}, "")


def test_it_brings_faults_through_and_switches_them_off_where_there_are_none():
    given = "{percent: 12.5, status: 503, retry_after: 0, latency_ms: 10, ttft_ms: 20, cut_after: 0}"
    applied(
        "providers:\n"
        f"- {{name: demo-a, dialect: openai, base_url: 'demo://', faults: {given}}}\n"
        "- {name: demo-b, dialect: openai, base_url: 'demo://', faults: {percent: 50, stall_after: 3}}\n"
        "- {name: demo, dialect: openai, base_url: 'demo://'}\n"
        "- {name: real, dialect: openai, base_url: 'http://real'}\n"
    )
    exported = export()
    written = {each["name"]: each.get("faults") for each in yaml.safe_load(exported)["providers"]}
    assert written == {
        "demo": {},
        "demo-a": yaml.safe_load(given),
        "demo-b": {"percent": 50, "stall_after": 3},
        "real": None,
    }
    assert apply_text(exported).done == []
    Provider.objects.filter(name="demo").update(fault_status=500)
    apply_text(exported)
    assert export() == exported
    emptied()
    apply_text(exported)
    assert export() == exported


def test_it_restores_a_row_that_was_changed_since():
    apply_text(EXAMPLE)
    exported = export()
    Provider.objects.update(enabled=False, connect_timeout_s=9, auth_header="x", extra_headers={"a": "b"})
    Route.objects.update(priority=5, note="x")
    ApiKey.objects.update(expires_at=None, allowed_models=["none"])
    GatewaySettings.objects.update(default_model="x", default_provider=None)
    Tenant.objects.update(timezone="UTC")
    RateLimit.objects.all().delete()
    apply_text(exported)
    assert export() == exported


def test_it_writes_the_same_whatever_the_ids_are():
    applied("tenants: [{name: b}, {name: a}]")
    exported = export()
    emptied()
    applied("tenants: [{name: a}, {name: b}]")
    assert export() == exported


def test_it_writes_stored_credentials_only_when_asked_and_never_in_the_clear():
    applied(f"{PROVIDER[:-2]}, api_key: sk-very-secret}}]")
    plain, full = export(), export(with_secrets=True)
    assert "api_key:" not in plain
    assert "sk-very-secret" not in full
    assert yaml.safe_load(full)["providers"][0]["api_key"].startswith("enc:")
    apply_text(plain)
    assert Provider.objects.get().open_credential() == "sk-very-secret"
    emptied()
    apply_text(full)
    assert Provider.objects.get().open_credential() == "sk-very-secret"
    assert export(with_secrets=True) == full


def test_it_writes_references_as_they_are():
    apply_text(DESIGN_EXAMPLE)
    assert "api_key: ${ANTHROPIC_API_KEY}\n" in export()


def test_it_writes_keys_as_digests_that_work_again():
    secret = applied("tenants: [{name: t}]\nkeys: [{name: k, tenant: t}]").secrets["k"]
    exported = export()
    assert secret not in exported
    before = ApiKey.objects.values_list("digest", "prefix").get()
    emptied()
    assert apply_text(exported).secrets == {}
    assert ApiKey.objects.values_list("digest", "prefix").get() == before


def test_it_leaves_built_in_prices_out():
    apply_text(DESIGN_EXAMPLE)
    assert Price.objects.filter(source="builtin").exists()
    assert [price["model"] for price in yaml.safe_load(export())["prices"]] == ["gpt-4o-mini"]


def test_it_exports_rows_that_only_the_admin_makes():
    route = Route.objects.create(match="gpt-4o*", kind="exact")  # a star in an exact name
    Route.objects.create(match="nowhere", kind="regex")  # no targets
    provider = Provider.objects.create(name="p", dialect="openai", base_url="http://p", idle_timeout_s=0.5)
    Target.objects.create(route=route, provider=provider, position=9)
    for _ in range(2):
        Budget.objects.create(amount_nanousd=1, window="total")
        RateLimit.objects.create(kind="concurrent", amount=1)
    exported = export()
    version = current_version()
    assert apply_text(exported).done == []
    assert current_version() == version
    emptied()
    apply_text(exported)
    assert export() == exported


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    name=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40
    ),
    note=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40),
)
def test_it_brings_any_text_through(name, note):
    if not name.strip() or (note and not note.strip()):
        return
    emptied()
    Tenant.objects.create(name=name)
    Route.objects.create(match=name, note=note)
    exported = export()
    assert apply_text(exported).done == []
    emptied()
    apply_text(exported)
    assert Tenant.objects.get().name == name
    assert Route.objects.values_list("match", "note").get() == (name, note)


@given(st.text(max_size=50))
def test_it_quotes_every_text_that_would_be_read_as_something_else(text):
    document = {"a": text, "b": [Inline({"c": text, text: 1})]}
    assert read_yaml(dump(document), Problems()) == document


def test_it_exports_with_a_number_of_queries_that_rows_do_not_raise(django_assert_max_num_queries):
    applied(
        "tenants: [{name: t}]\nkeys:\n"
        + "".join(f"- {{name: k{n}, tenant: t, rate_limits: [{{concurrent: 1}}]}}\n" for n in range(50))
    )
    with django_assert_max_num_queries(12):
        export()


PRICED = """\
version: 1
providers: [{name: p, dialect: openai, base_url: "http://p"}]
prices:
  - provider: p
    model: "m*"
    input_usd_per_mtok: 3
    output_usd_per_mtok: 15
    cache_write_1h_usd_per_mtok: 6
    reasoning_usd_per_mtok: 16
    audio_input_usd_per_mtok: 0.7
    cached_audio_input_usd_per_mtok: "0.175"
    audio_output_usd_per_mtok: 20
    image_input_usd_per_mtok: 10
    cached_image_input_usd_per_mtok: 2.5
    image_output_usd_per_mtok: 40
    tiers:
      - {above_prompt_tokens: 200000, input_usd_per_mtok: "6.00", output_usd_per_mtok: 22.5}
      - {above_prompt_tokens: 400000, cached_input_usd_per_mtok: 0.6, cache_write_1h_usd_per_mtok: 12}
    max_output_tokens: 64000
"""


def test_it_brings_the_rates_of_parts_and_long_prompts_through():
    apply_text(PRICED)
    row = Price.objects.get()
    assert row.tiers == [
        {"above_prompt_tokens": 200_000, "input": 6 * 10**9, "output": 22_500_000_000},
        {"above_prompt_tokens": 400_000, "cached_input": 600_000_000, "cache_write_1h": 12 * 10**9},
    ]
    assert (row.cached_audio_input_nanousd_per_mtok, row.max_output_tokens) == (175_000_000, 64_000)
    exported = export()
    version = current_version()
    assert apply_text(exported).done == []
    assert apply_text(PRICED).done == []
    assert current_version() == version
    emptied()
    apply_text(exported)
    assert export() == exported
    told, wanted = (yaml.safe_load(text)["prices"][0] for text in (exported, PRICED))
    assert {name for name, value in told.items() if value is not None} == set(wanted)
    assert told["tiers"][0] == {
        "above_prompt_tokens": 200_000,
        "input_usd_per_mtok": "6",
        "output_usd_per_mtok": "22.5",
    }


def test_it_takes_tiers_away_that_the_file_says_are_none():
    apply_text(PRICED)
    named = "prices: [{provider: p, model: 'm*', "
    apply_text(f"version: 1\n{named}reasoning_usd_per_mtok: null}}]")
    assert Price.objects.get().tiers != []  # left out: unchanged
    apply_text(f"version: 1\n{named}tiers: []}}]")
    assert Price.objects.get().tiers == []


RESILIENT = """
version: 1
providers:
  - name: p
    dialect: openai
    base_url: http://p
    api_keys: ["${NO_SUCH_VARIABLE_HERE}", {name: b, api_key: "${NOR_THIS_ONE_HERE}", enabled: false}]
    max_concurrency: 20
    max_queue: 0
    queue_timeout: 1.5
routes:
  - match: m
    strategy: weighted
    sticky: {header: X-Session}
    timeouts: {connect: 1.5, first_content: 2, idle: 3, total: 4}
    hedge: true
    continue_streams: true
    targets: [{provider: p, context_window: 8}, {provider: p, model: c, canary: 2.5}]
    on_context_overflow: [{provider: p, model: o, context_window: 9}]
    on_content_filter: [{provider: p, model: f}]
    shadow: [{provider: p, model: s, percent: 1, budget_usd_per_day: "1.25"}]
  - {match: n, sticky: user, targets: []}
tenants: [{name: t, queue_weight: 7}]
prices: [{provider: p, model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 1, context_window: 9}]
"""


def test_it_brings_resilience_through():
    apply_text(RESILIENT)
    exported = export()
    version = current_version()
    assert apply_text(exported).done == []
    assert current_version() == version
    emptied()
    apply_text(exported)
    assert export() == exported
    told, wanted = yaml.safe_load(exported), yaml.safe_load(RESILIENT)
    assert told["providers"][0]["api_keys"] == [
        {"name": "NO_SUCH_VARIABLE_HERE", "api_key": "${NO_SUCH_VARIABLE_HERE}"},
        wanted["providers"][0]["api_keys"][1],
    ]
    for name in ("max_concurrency", "max_queue", "queue_timeout"):
        assert told["providers"][0][name] == wanted["providers"][0][name]
    for name in ("sticky", "timeouts", "hedge", "on_context_overflow", "on_content_filter", "shadow"):
        assert told["routes"][0][name] == wanted["routes"][0][name]
    assert told["routes"][0]["targets"][1] == {"provider": "p", "model": "c", "weight": 1, "canary": 2.5}
    assert told["routes"][1]["sticky"] == "user"


def test_it_writes_no_further_key_in_the_clear_and_keeps_those_that_it_leaves_out():
    applied(f"{PROVIDER[:-2]}, api_keys: [sk-very-secret, {{name: b, api_key: sk-other-secret}}]}}]")
    plain, full = export(), export(with_secrets=True)
    assert yaml.safe_load(plain)["providers"][0]["api_keys"] == [{"name": "key-2"}, {"name": "b"}]
    assert "-secret" not in plain + full
    assert apply_text(plain).done == []
    assert apply_text(full).done == []
    emptied()
    apply_text(full)
    assert [each.open_credential() for each in Credential.objects.all()] == [
        "sk-very-secret",
        "sk-other-secret",
    ]
    assert export(with_secrets=True) == full
    emptied()
    apply_text(plain)  # elsewhere: their keys are to be given again
    assert [each.credential for each in Credential.objects.all()] == ["", ""]


LIMITING = f"""
version: 1
rate_limits:
- {{requests: 1, per: second, each: ip}}
- {{concurrent: 2, model: "gpt-4o*", each: model}}
- {{tokens: 1000000000000, per: day, each: tenant, enabled: false}}
budgets:
- {{amount_usd: "9000000", window: total, raised_usd: "1.5", raised_until: "2027-01-31T12:00:00Z"}}
- {{amount_usd: "1", window: week, mode: soft, alert_percents: [], refuse_unpriced: true, model: "a/*"}}
tenants:
- name: t
  timezone: Asia/Tokyo
  alert_emails: [ops@example.com, b@example.com]
  alert_webhook: ${{HOOK}}
  budgets: [{{amount_usd: "2", window: day, alert_percents: [10, 50]}}]
keys:
- name: k
  tenant: t
  secret_sha256: {"a" * 64}
  denied_models: ["gpt-4o-mini", "demo/*"]
  allowed_networks: [10.0.0.0/8, 203.0.113.7, "2001:db8::/32"]
  tags: {{team: search, a: b}}
  max_tokens: 100
  forced_route: fast
  previous_secret_sha256: {"b" * 64}
  previous_prefix: sk-gw-old
  previous_until: "2027-01-31"
  rate_limits: [{{requests: 5, per: hour}}]
- {{name: plain, tenant: t, secret_sha256: {"c" * 64}}}
"""


def test_it_brings_limits_and_terms_of_keys_through(monkeypatch):
    monkeypatch.setenv("HOOK", "https://hook.example")
    assert apply_text(LIMITING).warnings == []
    exported = export()
    version = current_version()
    assert apply_text(exported).done == []
    assert current_version() == version
    told, wanted = yaml.safe_load(exported), yaml.safe_load(LIMITING)
    assert told["rate_limits"] == wanted["rate_limits"]
    assert told["budgets"] == wanted["budgets"]
    for listed in ("tenants", "keys"):
        for name, value in wanted[listed][0].items():
            assert told[listed][0][name] == value
    assert told["keys"][1]["previous_secret_sha256"] is None
    ApiKey.objects.filter(name="plain").update(
        denied_models=["x"],
        allowed_networks=["::/0"],
        tags={"x": "y"},
        max_tokens=1,
        forced_route="x",
        previous_digest="d" * 64,
        previous_prefix="x",
        previous_until=datetime(2027, 1, 1, tzinfo=UTC),
    )
    ApiKey.objects.filter(name="k").update(tags={}, previous_digest=None, previous_until=None)
    RateLimit.objects.update(each="key")
    Budget.objects.update(raised_nanousd=None, raised_until=None, alert_percents=[1], refuse_unpriced=False)
    Tenant.objects.update(alert_emails=[], alert_webhook="")
    apply_text(exported)
    assert export() == exported
    emptied()
    apply_text(exported)
    assert export() == exported


def test_it_writes_a_webhook_only_when_asked_and_never_in_the_clear():
    applied("tenants: [{name: t, alert_webhook: 'https://hook.example/very-secret'}]")
    plain, full = export(), export(with_secrets=True)
    assert "alert_webhook" not in plain
    assert "very-secret" not in full
    assert apply_text(plain).done == []
    assert apply_text(full).done == []
    emptied()
    apply_text(full)
    assert vault().open(Tenant.objects.get().alert_webhook) == "https://hook.example/very-secret"
    assert export(with_secrets=True) == full
    applied("tenants: [{name: t, alert_webhook: null}]")
    assert Tenant.objects.get().alert_webhook == ""
