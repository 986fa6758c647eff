"""Holds a file against the rows: what it refers to must exist, what it creates must be complete."""

from collections.abc import Collection, Iterable, Sequence

from django.conf import settings

from config.vault import SecretUnreadable, Vault, sealed
from gatewaysite.config_file import fields
from gatewaysite.config_file.document import Document, Entry
from gatewaysite.config_file.existing import Existing
from gatewaysite.config_file.fields import Field
from gatewaysite.config_file.problems import Problems, did_you_mean
from gatewaysite.config_file.reading import price_identity
from providers.faults import OFF
from providers.models import DEMO_URL


def check_against_rows(document: Document, existing: Existing, problems: Problems) -> None:
    """Add to `problems` what the rows make of the file."""
    providers = existing.providers.keys() | _names(document.providers)
    tenants = existing.tenants.keys() | _names(document.tenants)
    default = document.settings.get("default_provider")
    if default:
        _refer("default_provider", default, known=providers, what="provider", problems=problems)
    for entry in document.providers:
        _complete(entry, fields.PROVIDER, problems, known=entry.row["name"] in existing.providers)
        _check_faults(entry, existing, problems)
        for credential in (entry, *(entry.further or ())):
            _check_token(credential, problems, field="api_key")
    for entry in document.tenants:
        _check_token(entry, problems, field="alert_webhook")
    for entry in document.routes:
        _check_route(entry, existing, providers, problems)
    for entry in document.keys:
        _check_key(entry, existing, tenants, problems)
    for entry in document.prices:
        _complete(entry, fields.PRICE, problems, known=price_identity(entry.row) in existing.prices)
        _refer(
            f"{entry.path}.provider",
            entry.row["provider"],
            known=providers,
            what="provider",
            problems=problems,
        )


def _check_route(entry: Entry, existing: Existing, providers: Collection[str], problems: Problems) -> None:
    known = (entry.row["kind"], entry.row["match"]) in existing.routes
    if not known and entry.targets is None:
        problems.add(f"{entry.path}.targets", "required")
    for listed, rows in {"targets": entry.targets or (), **entry.chains}.items():
        for index, target in enumerate(rows):
            if "provider" in target:
                path = f"{entry.path}.{listed}[{index}].provider"
                _refer(path, target["provider"], known=providers, what="provider", problems=problems)


def _check_key(entry: Entry, existing: Existing, tenants: Collection[str], problems: Problems) -> None:
    name = entry.row["name"]
    _complete(entry, fields.KEY, problems, known=name in existing.keys)
    if "tenant" in entry.row:
        _refer(f"{entry.path}.tenant", entry.row["tenant"], known=tenants, what="tenant", problems=problems)
    for column, whose in (("digest", "its secret"), ("previous_digest", "its previous secret")):
        holder = existing.key_names.get(entry.row.get(column) or "", name)
        if holder != name:
            problems.add(entry.path, f"{whose} is already that of key {holder}")
    _check_previous(entry, existing, problems)


def _check_previous(entry: Entry, existing: Existing, problems: Problems) -> None:
    """A secret from before a rotation works until a moment, and a moment is nothing without the secret."""
    found = existing.keys.get(entry.row["name"])
    secret = entry.row.get("previous_digest", found.previous_digest if found else None)
    until = entry.row.get("previous_until", found.previous_until if found else None)
    if secret and until is None:
        problems.add(f"{entry.path}.previous_until", "required beside previous_secret_sha256")
    elif secret is None and (until or entry.row.get("previous_prefix")):
        problems.add(f"{entry.path}.previous_secret_sha256", "required: until when does which secret work?")


def _check_token(entry: Entry, problems: Problems, *, field: str) -> None:
    """Refuse an encrypted credential that another installation's keys have sealed."""
    if entry.secret and sealed(entry.secret):
        try:
            Vault(settings.SECRET_KEYS).open(entry.secret)
        except SecretUnreadable as problem:
            # A key that is listed as a text alone has no fields.
            problems.add(f"{entry.path}.{field}" if entry.given else entry.path, str(problem))


def _check_faults(entry: Entry, existing: Existing, problems: Problems) -> None:
    """Refuse faults at a real vendor: whose they are may stand in the row alone, and they themselves too."""
    found = existing.providers.get(entry.row["name"])
    base_url = entry.row.get("base_url", found.base_url if found else DEMO_URL)
    if base_url == DEMO_URL:
        return
    given = [name for name, off in OFF.items() if entry.row.get(name, off) != off]
    if given:
        problems.add(f"{entry.path}.faults", f"are for the demo provider alone (base_url: {DEMO_URL})")
    elif found and found.given_faults() and "faults" not in entry.given:
        problems.add(f"{entry.path}.base_url", "this provider fails on purpose: write `faults: {}` beside it")


def _names(entries: Iterable[Entry]) -> set[str]:
    return {entry.row["name"] for entry in entries}


def _complete(entry: Entry, table: Sequence[Field], problems: Problems, *, known: bool) -> None:
    for field in table:
        if field.required and not known and field.name not in entry.given:
            problems.add(f"{entry.path}.{field.name}", "required")


def _refer(path: str, name: str, *, known: Collection[str], what: str, problems: Problems) -> None:
    if name not in known:
        problems.add(path, f"no {what} is named {name}{did_you_mean(name, known)}")
