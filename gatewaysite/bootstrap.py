"""The first start: an administrator, the demo, providers from the environment; later starts: what is new.

Each step is recorded (BootstrapStep) in the transaction that does it, so it happens once in an
installation's life: a demo provider, key or administrator that was deleted does not come back, and
neither the presence of rows nor an earlier `apply_config` can be mistaken for a first start. A
vendor's variable that is set later is a step that was not done yet. Prices and `config.yaml` are
brought up to date at every start. Secrets go to the caller alone, never to a log.
"""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from django.contrib.auth import get_user_model
from django.db import transaction

from gatewaysite.audit_chain import seal_new
from gatewaysite.config_file import apply_text
from gatewaysite.environment import Environment
from gatewaysite.exclusive import one_at_a_time
from gatewaysite.models import BootstrapStep
from gatewaysite.roles import make_roles
from keys.models import ApiKey, Tenant
from providers.builtin_prices import write_all_builtin_prices
from providers.models import DEMO_URL, Provider

ADMIN = "admin"
DEMO_KEY = "demo-key"


@dataclass(slots=True)
class Started:
    """What a start made. Secrets are here once and nowhere else."""

    admin_password: str = field(default="", repr=False)
    demo_key: str = field(default="", repr=False)
    generated_keys: dict[str, str] = field(default_factory=dict, repr=False)
    providers: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Vendor:
    """A provider that a variable of the environment asks for."""

    name: str
    dialect: str
    base_url: str
    variable: str = ""  # holds the credential; empty: there is none
    url_variable: str = ""  # where base_url came from


def bootstrap(environment: Environment, *, directory: Path) -> Started:
    """Do what this installation has not done yet, in one transaction, one process at a time.

    Raises ConfigFileError when `config.yaml` in `directory` has problems; nothing is done then.
    """
    started = Started()
    config = directory / "config.yaml"
    with transaction.atomic():
        one_at_a_time()
        make_roles()
        if _first_time("admin"):
            _make_admin(started)
        if _first_time("demo"):
            _make_demo(started)
        for vendor in _vendors(environment):
            _make_provider(vendor, started)
        if config.is_file():
            _apply(config, started)
        write_all_builtin_prices()
    # Of entries from before there were seals, and of those that a crash left without.
    seal_new()
    return started


def _first_time(step: str) -> bool:
    return BootstrapStep.objects.get_or_create(name=step)[1]


def _make_admin(started: Started) -> None:
    users = get_user_model()
    if users.objects.filter(is_superuser=True).exists():
        return
    if users.objects.filter(username=ADMIN).exists():
        started.warnings.append(
            "a user named admin exists and is no administrator: manage.py createsuperuser"
        )
        return
    started.admin_password = secrets.token_urlsafe(15)
    users.objects.create_superuser(ADMIN, "", started.admin_password)


def _make_demo(started: Started) -> None:
    if not Provider.objects.filter(name="demo").exists():
        Provider.objects.create(name="demo", dialect="openai", base_url=DEMO_URL)
    tenant, _ = Tenant.objects.get_or_create(name="demo")
    if not ApiKey.objects.filter(name=DEMO_KEY).exists():
        key, started.demo_key = ApiKey.issue(tenant=tenant, name=DEMO_KEY)
        key.save()


def _vendors(environment: Environment) -> list[_Vendor]:
    """Return the providers that the environment asks for."""
    vendors = []
    if environment.openai_api_key:
        vendors.append(_Vendor("openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY"))
    if environment.anthropic_api_key:
        vendors.append(_Vendor("anthropic", "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"))
    if environment.google_api_key or environment.gemini_api_key:
        variable = "GOOGLE_API_KEY" if environment.google_api_key else "GEMINI_API_KEY"
        url = "https://generativelanguage.googleapis.com/v1beta"
        vendors.append(_Vendor("gemini", "gemini", url, variable))
    if environment.mistral_api_key:
        vendors.append(_Vendor("mistral", "mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"))
    if environment.ollama_base_url:
        url = environment.ollama_base_url.rstrip("/")
        vendors.append(_Vendor("ollama", "ollama", url, url_variable="OLLAMA_BASE_URL"))
    if environment.llm_base_url:
        url, variable = environment.llm_base_url.rstrip("/"), "LLM_API_KEY" if environment.llm_api_key else ""
        vendors.append(_Vendor("llm", "openai", url, variable, url_variable="LLM_BASE_URL"))
    return vendors


def _make_provider(vendor: _Vendor, started: Started) -> None:
    found = Provider.objects.filter(name=vendor.name).first()
    if _first_time(f"provider {vendor.name}") and found is None:
        credential = f"${{{vendor.variable}}}" if vendor.variable else ""
        Provider.objects.create(
            name=vendor.name, dialect=vendor.dialect, base_url=vendor.base_url, credential=credential
        )
        started.providers.append(vendor.name)
    elif found and vendor.url_variable and found.base_url.rstrip("/") != vendor.base_url:
        started.warnings.append(
            f"{vendor.url_variable} is {vendor.base_url}, but provider {vendor.name} has {found.base_url}: "
            "its row wins, change it in the admin"
        )


def _apply(config: Path, started: Started) -> None:
    changes = apply_text(config.read_text(encoding="utf-8-sig"))
    started.changes += changes.done
    started.warnings += changes.warnings
    started.generated_keys |= changes.secrets
