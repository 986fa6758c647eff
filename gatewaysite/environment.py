"""Reads the environment (and `.env`) into one frozen value, once, at start.

Every variable of the outside contract is a field here, with its default. A value that does
not parse stops the start with a sentence that names the variable. Names that users of small
gateways already have are read as aliases (`ALIASES`).
"""

import ipaddress
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import environ
import orjson
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from gatewaysite.accounts.oidc_groups import parse_roles, parse_tenants
from proxy.patterns import BadPattern, compile_regex

# What this process was started with: reading `.env` adds to os.environ.
INHERITED: Mapping[str, str] = dict(os.environ)
ALIASES: Mapping[str, str] = {
    "CACHE_BACKEND": "CACHE_MODE",
    "REDIS_ADDR": "REDIS_URL",
    "LOG_PRETTY": "LOG_FORMAT",
    "LLM_GATEWAY_SERVER_PORT": "PORT",
    "LLM_GATEWAY_LOG_LEVEL": "LOG_LEVEL",
    "LLM_GATEWAY_PROVIDERS_OPENAI_API_KEY": "OPENAI_API_KEY",
    "LLM_GATEWAY_PROVIDERS_ANTHROPIC_API_KEY": "ANTHROPIC_API_KEY",
    "LLM_GATEWAY_PROVIDERS_DEFAULT": "DEFAULT_PROVIDER",
}

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(b|kb|kib|mb|mib|gb|gib)?", re.IGNORECASE)
_BYTES = {"b": 1, "kb": 10**3, "kib": 2**10, "mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
# Other programs' words beside ours.
_LEVELS = {
    **{word: word for word in ("debug", "info", "warning", "error")},
    "trace": "debug",
    "warn": "warning",
    "critical": "error",
    "fatal": "error",
}


def _duration_s(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("a duration such as 30s, 500ms, 5m or 1h, or a number of seconds")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def _optional_duration_s(text: str) -> float | None:
    return _duration_s(text) if text.strip() else None


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size such as 33554432, 32MiB or 16 MiB")
    return int(match[1]) * _BYTES[(match[2] or "b").lower()]


def _payload_bytes(text: str) -> int:
    size = _bytes(text)
    if not 1 << 10 <= size <= 256 << 10:
        raise ValueError("a size from 1KiB to 256KiB")
    return size


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text.strip(), re.ASCII):
        raise ValueError("a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    count = _count(text)
    if count < 1:
        raise ValueError("a whole number, 1 or more")
    return count


def _port(text: str) -> int:
    port = _count(text)
    if port > 65535:
        raise ValueError("a port from 0 to 65535")
    return port


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true or false")


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in allowed:
            raise ValueError("one of " + ", ".join(value or "(empty)" for value in allowed))
        return word

    return parse


def _some_of(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        words = tuple(word.lower() for word in _words(text))
        if not words or not set(words) <= set(allowed):
            raise ValueError("some of " + ", ".join(allowed) + ", separated by commas")
        return words

    return parse


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    try:
        headers = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError('a JSON object of names and texts such as {"x-served-by": "gateway"}')
    return tuple(headers.items())


def _regexes(text: str) -> tuple[str, ...]:
    patterns = _words(text)
    for pattern in patterns:
        try:
            compile_regex(pattern)
        except BadPattern as problem:
            raise ValueError(f"RE2 regexes, separated by commas ({problem})") from None
    return patterns


def _log_level(text: str) -> str:
    level = _LEVELS.get(text.strip().lower())
    if level is None:
        raise ValueError("one of debug, info, warning, error")
    return level


def _networks(text: str) -> tuple[str, ...]:
    words = _words(text)
    for word in words:
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError("addresses or networks such as 10.0.0.0/8, separated by commas") from None
    return words


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _emails(text: str) -> tuple[str, ...]:
    words = _words(text)
    for word in words:
        try:
            validate_email(word)
        except ValidationError:
            raise ValueError("e-mail addresses, separated by commas") from None
    return words


def _timezone(text: str) -> str:
    if text not in zoneinfo.available_timezones():
        raise ValueError("a time zone such as Europe/Berlin or UTC")
    return text


def _hour(text: str) -> int:
    hour = _count(text)
    if hour > 23:
        raise ValueError("an hour from 0 to 23")
    return hour


def _email_url(text: str) -> str:
    url = text.strip()
    if url:
        try:
            environ.Env.email_url_config(url)
        except (ImproperlyConfigured, ValueError):  # ValueError: the port
            raise ValueError("a URL such as smtp+tls://user:password@host:587") from None
    return url


def _http_url(text: str) -> str:
    url = text.strip()
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("a URL that starts with http:// or https://")
    return url


def _var(name: str, default: str, parse: Callable[[str], Any] = str.strip) -> Any:
    return field(metadata={"name": name, "default": default, "parse": parse})


def _secret(name: str, parse: Callable[[str], Any] = str.strip) -> Any:
    """A variable that may hold a password: no traceback shows it."""
    return field(repr=False, metadata={"name": name, "default": "", "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment says; rows in the admin win over the settings that are also rows."""

    port: int = _var("PORT", "8080", _port)
    host: str = _var("HOST", "127.0.0.1")
    workers: int = _var("WORKERS", "1", _positive)
    data_dir: Path = _var("GATEWAY_DATA_DIR", "./data", lambda text: Path(text).resolve())
    database_url: str = _secret("DATABASE_URL")
    redis_url: str = _secret("REDIS_URL")
    celery_broker_url: str = _secret("CELERY_BROKER_URL")
    cache_mode: str = _var("CACHE_MODE", "memory", _one_of("memory", "redis", "none"))
    cache_ttl_s: float = _var("CACHE_TTL", "1h", _duration_s)
    cache_max_bytes: int = _var("CACHE_MAX_BYTES", "16MiB", _bytes)
    cache_exclude_exact: tuple[str, ...] = _var("CACHE_EXCLUDE_EXACT", "", _words)
    cache_exclude_patterns: tuple[str, ...] = _var("CACHE_EXCLUDE_PATTERNS", "", _regexes)
    gateway_version: str = _var("GATEWAY_VERSION", "v1")
    allow_client_api_keys: bool = _var("ALLOW_CLIENT_API_KEYS", "false", _flag)
    allow_anonymous: bool = _var("ALLOW_ANONYMOUS", "false", _flag)
    max_retries: int = _var("MAX_RETRIES", "3", _positive)
    provider_timeout_s: float | None = _var("PROVIDER_TIMEOUT", "", _optional_duration_s)
    stream_keep_alive_s: float = _var("STREAM_KEEP_ALIVE", "15s", _duration_s)
    idempotency_ttl_s: float = _var("IDEMPOTENCY_TTL", "24h", _duration_s)
    cb_error_threshold: int = _var("CB_ERROR_THRESHOLD", "5", _count)
    cb_time_window_s: float = _var("CB_TIME_WINDOW", "60s", _duration_s)
    cb_half_open_timeout_s: float = _var("CB_HALF_OPEN_TIMEOUT", "30s", _duration_s)
    api_rpm: int = _var("API_RPM", "600", _count)
    rpm_limit: int = _var("RPM_LIMIT", "0", _count)
    default_provider: str = _var("DEFAULT_PROVIDER", "")
    default_model: str = _var("DEFAULT_MODEL", "")
    simple_chat: str = _var("SIMPLE_CHAT", "", _one_of("", "open", "key"))
    anon_ip_rpm: int = _var("ANON_IP_RPM", "5", _count)
    max_response_bytes: int = _var("MAX_RESPONSE_BYTES", "64MiB", _bytes)
    max_body_bytes: int = _var("MAX_BODY_BYTES", "32MiB", _bytes)
    max_upload_bytes: int = _var("MAX_UPLOAD_BYTES", "1GiB", _bytes)
    store_outage: str = _var("STORE_OUTAGE", "share", _one_of("share", "refuse", "allow"))
    metrics_token: str = _secret("METRICS_TOKEN")
    cors_origins: tuple[str, ...] = _var("CORS_ORIGINS", "*", _words)
    trusted_proxies: tuple[str, ...] = _var("TRUSTED_PROXIES", "", _networks)
    log_level: str = _var("LOG_LEVEL", "info", _log_level)
    log_format: str = _var("LOG_FORMAT", "json", _one_of("json", "console"))
    log_prompts: bool = _var("LOG_PROMPTS", "false", _flag)
    log_retention_s: float = _var("LOG_RETENTION", "90d", _duration_s)
    rollup_retention_s: float = _var("ROLLUP_RETENTION", "0", _duration_s)
    request_middleware: tuple[str, ...] = _var("REQUEST_MIDDLEWARE", "", _words)
    response_middleware: tuple[str, ...] = _var("RESPONSE_MIDDLEWARE", "", _words)
    payload_max_bytes: int = _var("PAYLOAD_MAX_BYTES", "16KiB", _payload_bytes)
    payload_redact: tuple[str, ...] = _var("PAYLOAD_REDACT", "", _regexes)
    redact_kinds: tuple[str, ...] = _var(
        "REDACT_KINDS", "email,phone,card,iban,secret", _some_of("email", "phone", "card", "iban", "secret")
    )
    redact_directions: tuple[str, ...] = _var(
        "REDACT_DIRECTIONS", "prompts,answers", _some_of("prompts", "answers")
    )
    response_headers: tuple[tuple[str, str], ...] = _var("RESPONSE_HEADERS", "", _headers)
    completion_webhook_url: str = _secret("COMPLETION_WEBHOOK_URL")
    completion_webhook_secret: str = _secret("COMPLETION_WEBHOOK_SECRET")
    completion_elasticsearch_url: str = _secret("COMPLETION_ELASTICSEARCH_URL")
    completion_elasticsearch_index: str = _var("COMPLETION_ELASTICSEARCH_INDEX", "gateway-completions")
    completion_elasticsearch_api_key: str = _secret("COMPLETION_ELASTICSEARCH_API_KEY")
    completion_sink_content: bool = _var("COMPLETION_SINK_CONTENT", "false", _flag)
    email_url: str = _secret("EMAIL_URL", _email_url)
    email_from: str = _var("EMAIL_FROM", "gateway@localhost")
    budget_alert_emails: tuple[str, ...] = _var("BUDGET_ALERT_EMAILS", "", _emails)
    budget_alert_webhook_url: str = _secret("BUDGET_ALERT_WEBHOOK_URL", _http_url)
    budget_alert_webhook_secret: str = _secret("BUDGET_ALERT_WEBHOOK_SECRET")
    report_emails: tuple[str, ...] = _var("REPORT_EMAILS", "", _emails)
    report_webhook: str = _secret("REPORT_WEBHOOK", _http_url)
    report_webhook_secret: str = _secret("REPORT_WEBHOOK_SECRET")
    report_timezone: str = _var("REPORT_TIMEZONE", "UTC", _timezone)
    report_hour: int = _var("REPORT_HOUR", "6", _hour)
    grace_s: float = _var("GRACE_PERIOD", "30s", _duration_s)
    app_base_url: str = _var("APP_BASE_URL", "", _http_url)
    secret_keys: tuple[str, ...] = _secret("GATEWAY_SECRET_KEYS", _words)
    oidc_issuer: str = _var("OIDC_ISSUER", "", _http_url)
    oidc_client_id: str = _var("OIDC_CLIENT_ID", "")
    oidc_client_secret: str = _secret("OIDC_CLIENT_SECRET")
    oidc_name: str = _var("OIDC_NAME", "single sign-on")
    oidc_scopes: tuple[str, ...] = _var("OIDC_SCOPES", "openid,profile,email", _words)
    oidc_groups_claim: str = _var("OIDC_GROUPS_CLAIM", "groups")
    oidc_roles: tuple[tuple[str, tuple[str, ...]], ...] = _var("OIDC_ROLES", "", parse_roles)
    oidc_tenants: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = _var(
        "OIDC_TENANTS", "", parse_tenants
    )
    require_mfa: str = _var("REQUIRE_MFA", "none", _one_of("none", "staff", "all"))
    openai_api_key: str = _secret("OPENAI_API_KEY")
    anthropic_api_key: str = _secret("ANTHROPIC_API_KEY")
    google_api_key: str = _secret("GOOGLE_API_KEY")
    gemini_api_key: str = _secret("GEMINI_API_KEY")
    mistral_api_key: str = _secret("MISTRAL_API_KEY")
    ollama_base_url: str = _var("OLLAMA_BASE_URL", "", _http_url)
    llm_base_url: str = _var("LLM_BASE_URL", "", _http_url)
    llm_api_key: str = _secret("LLM_API_KEY")

    @property
    def simple_chat_open(self) -> bool:
        """Is the simple chat served without a key? Unset: only while HOST is loopback."""
        return self.simple_chat == "open" or (not self.simple_chat and self.on_loopback)

    @property
    def on_loopback(self) -> bool:
        """Is the server bound to this machine alone?"""
        return self.host in {"127.0.0.1", "localhost", "::1"} or self.host.startswith("127.")


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the parsed environment. Raises ImproperlyConfigured naming the variable.

    Without `variables`, `.env` in the working directory is read first; the process
    environment wins over it.
    """
    if variables is None:
        dotenv = Path.cwd() / ".env"
        if dotenv.is_file():
            environ.Env.read_env(dotenv)
    aliased = _from_aliases(os.environ if variables is None else variables)
    if variables is None:
        # A credential stored as ${OPENAI_API_KEY} must open when only its alias is set.
        os.environ.update({name: text for name, (_, text) in aliased.items()})
        variables = os.environ
    values: dict[str, Any] = {}
    for spec in fields(Environment):
        name = spec.metadata["name"]
        written, text = aliased.get(name, (name, variables.get(name, "").strip()))
        text = text or spec.metadata["default"]
        values[spec.name] = _parsed(written, text, spec.metadata["parse"], told=spec.repr)
    environment = Environment(**values)
    if environment.cache_mode == "redis" and not environment.redis_url:
        raise ImproperlyConfigured("CACHE_MODE='redis' needs REDIS_URL, which is not set.")
    if environment.oidc_issuer:
        # The issuer sends people back to an address that it knows: no Host header may choose it.
        for name, text in (
            ("OIDC_CLIENT_ID", environment.oidc_client_id),
            ("APP_BASE_URL", environment.app_base_url),
        ):
            if not text:
                raise ImproperlyConfigured(f"OIDC_ISSUER needs {name}, which is not set.")
    return environment


def _from_aliases(variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return variable -> (alias, value) for those that are set by an alias alone."""
    return {
        name: (alias, _translate(alias, variables[alias].strip()))
        for alias, name in ALIASES.items()
        if variables.get(alias, "").strip() and not variables.get(name, "").strip()
    }


def _translate(alias: str, text: str) -> str:
    if alias == "LOG_PRETTY":
        return "console" if _parsed(alias, text, _flag) else "json"
    if alias == "REDIS_ADDR" and "://" not in text:
        return f"redis://{text}"
    if alias == "CACHE_BACKEND" and text.lower() in {"off", "disabled", "noop"}:
        return "none"
    return text


def _parsed(name: str, text: str, parse: Callable[[str], Any], *, told: bool = True) -> Any:
    """Return what a variable says. `told`: whether a problem may repeat it, or it may hold a password."""
    try:
        return parse(text)
    except ValueError as problem:
        raise ImproperlyConfigured(
            f"{name}{f'={text!r}' if told else ''} is not valid: expected {problem}."
        ) from None
