"""The environment: defaults, aliases, and a sentence for every value that does not parse."""

import dataclasses
import os
import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from gatewaysite.accounts.oidc_groups import GroupMap, groups_in
from gatewaysite.environment import ALIASES, Environment, read_environment

# What DESIGN.md, section 10, promises.
CONTRACT = {
    "port": 8080,
    "host": "127.0.0.1",
    "workers": 1,
    "data_dir": Path("data").resolve(),
    "cache_mode": "memory",
    "cache_ttl_s": 3600,
    "gateway_version": "v1",
    "allow_client_api_keys": False,
    "allow_anonymous": False,
    "max_retries": 3,
    "stream_keep_alive_s": 15,
    "idempotency_ttl_s": 86400,
    "cb_error_threshold": 5,
    "cb_time_window_s": 60,
    "cb_half_open_timeout_s": 30,
    "rpm_limit": 0,
    "anon_ip_rpm": 5,
    "cache_max_bytes": 16 * 2**20,
    "max_response_bytes": 64 * 2**20,
    "max_body_bytes": 32 * 2**20,
    "max_upload_bytes": 2**30,
    "store_outage": "share",
    "cors_origins": ("*",),
    "log_level": "info",
    "log_format": "json",
}


@pytest.mark.parametrize(("field", "value"), CONTRACT.items())
def test_it_has_the_promised_defaults(field, value):
    assert getattr(read_environment({}), field) == value


def test_an_empty_or_blank_variable_means_its_default():
    names = [spec.metadata["name"] for spec in dataclasses.fields(Environment)]
    assert read_environment(dict.fromkeys(names, "")) == read_environment({})
    assert read_environment(dict.fromkeys(names, "  ")) == read_environment({})


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PORT", "0", "port", 0),
        ("PORT", " 9000 ", "port", 9000),
        ("CACHE_TTL", "90", "cache_ttl_s", 90),
        ("CACHE_TTL", "500ms", "cache_ttl_s", 0.5),
        ("CACHE_TTL", "1.5h", "cache_ttl_s", 5400),
        ("CACHE_TTL", "2d", "cache_ttl_s", 172800),
        ("PROVIDER_TIMEOUT", "30s", "provider_timeout_s", 30),
        ("STREAM_KEEP_ALIVE", "0", "stream_keep_alive_s", 0),
        ("IDEMPOTENCY_TTL", "1h", "idempotency_ttl_s", 3600),
        ("MAX_BODY_BYTES", "1024", "max_body_bytes", 1024),
        ("MAX_BODY_BYTES", "16 MiB", "max_body_bytes", 16 * 2**20),
        ("MAX_BODY_BYTES", "10kb", "max_body_bytes", 10_000),
        ("ALLOW_ANONYMOUS", "TRUE", "allow_anonymous", True),
        ("ALLOW_ANONYMOUS", "on", "allow_anonymous", True),
        ("ALLOW_ANONYMOUS", "0", "allow_anonymous", False),
        ("CACHE_MODE", "None", "cache_mode", "none"),
        ("CACHE_EXCLUDE_EXACT", "a, b ,,c", "cache_exclude_exact", ("a", "b", "c")),
        ("GATEWAY_SECRET_KEYS", "new,old", "secret_keys", ("new", "old")),
        ("LOG_LEVEL", "WARN", "log_level", "warning"),
        ("LOG_LEVEL", "fatal", "log_level", "error"),
    ],
)
def test_it_reads_values_as_people_write_them(variable, text, field, value):
    assert getattr(read_environment({variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("PORT", "http", "PORT='http' is not valid: expected a whole number, 0 or more."),
        ("PORT", "65536", "PORT='65536' is not valid: expected a port from 0 to 65535."),
        ("PORT", "²", "PORT='²' is not valid: expected a whole number, 0 or more."),
        ("WORKERS", "0", "WORKERS='0' is not valid: expected a whole number, 1 or more."),
        ("WORKERS", "-1", "WORKERS='-1' is not valid: expected a whole number, 0 or more."),
        ("MAX_RETRIES", "9" * 30, "MAX_RETRIES="),
        ("CACHE_TTL", "soon", "CACHE_TTL='soon' is not valid: expected a duration such as 30s"),
        ("CACHE_TTL", "-5s", "CACHE_TTL='-5s' is not valid"),
        ("PROVIDER_TIMEOUT", "30 parsecs", "PROVIDER_TIMEOUT="),
        ("MAX_BODY_BYTES", "lots", "MAX_BODY_BYTES='lots' is not valid: expected a size such as"),
        ("ALLOW_ANONYMOUS", "maybe", "ALLOW_ANONYMOUS='maybe' is not valid: expected true or false."),
        ("CACHE_MODE", "disk", "CACHE_MODE='disk' is not valid: expected one of memory, redis, none."),
        ("CACHE_MODE", "redis", "CACHE_MODE='redis' needs REDIS_URL, which is not set."),
        (
            "CACHE_EXCLUDE_PATTERNS",
            "ok$,(x",
            "CACHE_EXCLUDE_PATTERNS='ok$,(x' is not valid: expected RE2 regexes",
        ),
        ("TRUSTED_PROXIES", "proxy", "TRUSTED_PROXIES='proxy' is not valid: expected addresses or networks"),
        ("SIMPLE_CHAT", "shut", "SIMPLE_CHAT='shut' is not valid: expected one of (empty), open, key."),
        ("STORE_OUTAGE", "panic", "STORE_OUTAGE='panic' is not valid: expected one of share, refuse, allow."),
        ("LOG_LEVEL", "loud", "LOG_LEVEL='loud' is not valid: expected one of debug, info, warning, error."),
        ("LOG_FORMAT", "xml", "LOG_FORMAT='xml' is not valid: expected one of json, console."),
        ("LOG_PRETTY", "maybe", "LOG_PRETTY='maybe' is not valid: expected true or false."),
        (
            "APP_BASE_URL",
            "example.com",
            "APP_BASE_URL='example.com' is not valid: expected a URL that starts",
        ),
        ("LLM_BASE_URL", "localhost:8000", "LLM_BASE_URL='localhost:8000' is not valid"),
        ("LLM_GATEWAY_SERVER_PORT", "http", "LLM_GATEWAY_SERVER_PORT='http' is not valid"),
        ("CACHE_BACKEND", "disk", "CACHE_BACKEND='disk' is not valid"),
    ],
)
def test_it_names_the_variable_that_does_not_parse_as_it_was_written(variable, text, sentence):
    with pytest.raises(ImproperlyConfigured) as told:
        read_environment({variable: text})
    assert str(told.value).startswith(sentence)


@pytest.mark.parametrize(
    ("alias", "text", "field", "value"),
    [
        ("CACHE_BACKEND", "none", "cache_mode", "none"),
        ("CACHE_BACKEND", "off", "cache_mode", "none"),
        ("REDIS_ADDR", "redis-host:6379", "redis_url", "redis://redis-host:6379"),
        ("REDIS_ADDR", "rediss://redis-host:6379/2", "redis_url", "rediss://redis-host:6379/2"),
        ("LOG_PRETTY", "true", "log_format", "console"),
        ("LOG_PRETTY", "false", "log_format", "json"),
        ("LLM_GATEWAY_SERVER_PORT", "9000", "port", 9000),
        ("LLM_GATEWAY_LOG_LEVEL", "warn", "log_level", "warning"),
        ("LLM_GATEWAY_PROVIDERS_OPENAI_API_KEY", "sk", "openai_api_key", "sk"),
        ("LLM_GATEWAY_PROVIDERS_ANTHROPIC_API_KEY", "sk", "anthropic_api_key", "sk"),
        ("LLM_GATEWAY_PROVIDERS_DEFAULT", "openai", "default_provider", "openai"),
    ],
)
def test_it_reads_the_names_of_other_gateways(alias, text, field, value):
    assert getattr(read_environment({alias: text}), field) == value


def test_every_alias_stands_for_a_variable():
    assert set(ALIASES.values()) <= {spec.metadata["name"] for spec in dataclasses.fields(Environment)}


def test_its_own_name_wins_over_an_alias():
    assert read_environment({"PORT": "1", "LLM_GATEWAY_SERVER_PORT": "2"}).port == 1
    assert read_environment({"PORT": "", "LLM_GATEWAY_SERVER_PORT": "2"}).port == 2


def test_it_shows_no_secret_of_the_environment():
    secret = "never-shown"
    names = [spec.metadata["name"] for spec in dataclasses.fields(Environment) if not spec.repr]
    assert {"OPENAI_API_KEY", "LLM_API_KEY", "GATEWAY_SECRET_KEYS", "METRICS_TOKEN", "DATABASE_URL"} <= set(
        names
    )
    shaped = {"EMAIL_URL": f"smtp://user:{secret}@host", "BUDGET_ALERT_WEBHOOK_URL": f"http://host/{secret}"}
    shaped["REPORT_WEBHOOK"] = f"http://host/{secret}"
    assert secret not in repr(read_environment({**dict.fromkeys(names, secret), **shaped}))
    shown = [spec.metadata["name"] for spec in dataclasses.fields(Environment) if spec.repr]
    assert not [name for name in shown if name.endswith(("_API_KEY", "_TOKEN", "_PASSWORD"))]


@pytest.mark.parametrize(
    ("host", "simple_chat", "is_open"),
    [
        ("127.0.0.1", "", True),
        ("0.0.0.0", "", False),
        ("0.0.0.0", "open", True),
        ("127.0.0.1", "key", False),
        ("::1", "", True),
    ],
)
def test_the_simple_chat_is_open_on_loopback_unless_told_otherwise(host, simple_chat, is_open):
    assert read_environment({"HOST": host, "SIMPLE_CHAT": simple_chat}).simple_chat_open is is_open


@pytest.fixture
def empty_environment(monkeypatch, tmp_path):
    """A process environment without any variable of ours, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [spec.metadata["name"] for spec in dataclasses.fields(Environment)] + list(ALIASES):
        monkeypatch.setenv(name, "")  # remembers to restore it, whoever sets it meanwhile
        monkeypatch.delenv(name)
    return tmp_path


def test_it_reads_a_dotenv_file_and_the_process_wins(empty_environment, monkeypatch):
    (empty_environment / ".env").write_text("PORT=1111\nWORKERS=2\n# HOST=x\nDEFAULT_MODEL='a b'\n")
    monkeypatch.setenv("PORT", "2222")
    read = read_environment()
    assert (read.port, read.workers, read.host, read.default_model) == (2222, 2, "127.0.0.1", "a b")


def test_it_lets_stored_references_find_what_an_alias_says(empty_environment, monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY_PROVIDERS_OPENAI_API_KEY", "sk-by-alias")
    read_environment()
    assert os.environ["OPENAI_API_KEY"] == "sk-by-alias"


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("EMAIL_URL", "imap://user:hidden@host", "expected a URL such as smtp+tls://"),
        ("EMAIL_URL", "smtp://user:hidden@host:port", "expected a URL such as smtp+tls://"),
        ("BUDGET_ALERT_WEBHOOK_URL", "hooks.test/hidden", "expected a URL that starts with http"),
        ("BUDGET_ALERT_EMAILS", "ops@acme.test, nobody", "expected e-mail addresses, separated by commas"),
    ],
)
def test_a_mistake_in_whom_to_tell_is_named_and_no_secret_is(variable, text, said):
    with pytest.raises(ImproperlyConfigured) as raised:
        read_environment({variable: text})
    assert str(raised.value).startswith(variable)
    assert said in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_it_reads_whom_to_tell_of_budgets():
    told = read_environment(
        {"BUDGET_ALERT_EMAILS": "ops@acme.test, b@acme.test", "EMAIL_URL": "smtp+tls://u:p%40@mail.test"}
    )
    assert told.budget_alert_emails == ("ops@acme.test", "b@acme.test")
    assert told.email_from == "gateway@localhost"
    assert "mail.test" not in repr(told)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OIDC_ROLES": "operator"},
            "OIDC_ROLES='operator' is not valid: expected a JSON object of groups and",
        ),
        ({"OIDC_ROLES": '{"a": 1}'}, "OIDC_ROLES="),
        ({"OIDC_TENANTS": '{"a": []}'}, "OIDC_TENANTS="),
        (
            {"OIDC_TENANTS": '{"a": "t:king"}'},
            "expected tenant:role with a role of viewer, member, owner, not",
        ),
        ({"REQUIRE_MFA": "some"}, "REQUIRE_MFA='some' is not valid: expected one of none, staff, all."),
        ({"OIDC_ISSUER": "id.example"}, "OIDC_ISSUER='id.example' is not valid: expected a URL"),
        ({"OIDC_ISSUER": "https://id.example"}, "OIDC_ISSUER needs OIDC_CLIENT_ID, which is not set."),
        (
            {"OIDC_ISSUER": "https://id.example", "OIDC_CLIENT_ID": "x"},
            "OIDC_ISSUER needs APP_BASE_URL, which is not set.",
        ),
    ],
)
def test_a_mistake_about_sign_in_is_named(variables, said):
    with pytest.raises(ImproperlyConfigured, match=re.escape(said)):
        read_environment(variables)


def test_it_reads_what_groups_stand_for():
    read = read_environment(
        {
            "OIDC_ROLES": '{"a": ["operator", "billing"]}',
            "OIDC_TENANTS": '{"a": "t", "b": ["t:owner", "u:member"]}',
        }
    )
    known = GroupMap(dict(read.oidc_roles), dict(read.oidc_tenants))
    assert known.roles_of(["a", "c"]) == {"operator", "billing"}
    assert known.tenants_of(["b", "a"]) == {"t": "owner", "u": "member"}
    assert known.known_tenants == {"t", "u"}


@pytest.mark.parametrize(
    ("claims", "path", "groups"),
    [
        ({"groups": ["a", 1, "b"]}, "groups", ["a", "b"]),
        ({"groups": "a, b c"}, "groups", ["a", "b", "c"]),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
        ({"https://acme.test/groups": ["a"]}, "https://acme.test/groups", ["a"]),
        ({"groups": None}, "groups", []),
        ({}, "realm_access.roles", []),
    ],
)
def test_it_finds_groups_where_issuers_put_them(claims, path, groups):
    assert groups_in(claims, path) == groups
