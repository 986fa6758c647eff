"""Resources that the configuration file has too: read, checked and written by the file's own code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request

from config.moments import moment
from gatewaysite.api import access
from gatewaysite.api.access import Seen
from gatewaysite.api.kinds import Body, Identity, Kind, invalid, refused, texts
from gatewaysite.config_file.applying import Applier
from gatewaysite.config_file.checking import check_against_rows
from gatewaysite.config_file.document import Document, Entry
from gatewaysite.config_file.existing import Existing
from gatewaysite.config_file.problems import ConfigFileError, Problems
from gatewaysite.config_file.rowwriter import Changes
from gatewaysite.config_file.sections import Sections
from keys.models import ApiKey, Tenant
from providers.models import Credential, Price, Provider
from proxy.models import GatewaySettings, Route

NOTHING = Document(
    settings={},
    providers=(),
    routes=(),
    exclusions=None,
    tenants=(),
    keys=(),
    prices=(),
    rate_limits=None,
    budgets=None,
)
ENTRY = "it"  # stands where a file's path would: no field is called so
Read = Callable[[Sections, Any, str], Entry | None]


@dataclass(frozen=True, kw_only=True)
class FileKind(Kind):
    """An object of the file: `section` lists it, `read` reads one, `shown` writes a row back.

    `fresh` are the values of a new one, for what a PUT leaves out.
    """

    section: str
    read: Read
    shown: Callable[[Any], dict[str, Any]]
    fresh: Callable[[], dict[str, Any]]
    base: Callable[[], QuerySet[Any]]
    secrets: Callable[[Any], list[str]] = lambda _: []
    of_tenants: str = ""
    only: Callable[[Identity], Identity] = dict

    def rows(self, seen: Seen) -> QuerySet[Any]:
        """Return the rows that may be seen."""
        found = self.base()
        return found if seen.everything else found.filter(**{f"{self.of_tenants}__in": seen.tenant_ids})

    def find(self, identity: Identity, seen: Seen, *, lock: bool = False) -> Any | None:
        """Return the row of this identity."""
        try:
            where = self.only(identity)
        except ValueError:  # no moment: there is no such price
            return None
        if any("\0" in str(value) for value in where.values()):
            return None
        if lock and (pk := self.rows(seen).filter(**where).values_list("pk", flat=True).first()) is not None:
            self.model._base_manager.select_for_update(of=("self",)).get(pk=pk)  # noqa: SLF001 - Django's documented name
        return self.rows(seen).filter(**where).first()

    def show(self, row: Any) -> dict[str, Any]:
        """Return the row as JSON."""
        return self.shown(row)

    def hidden(self, row: Any) -> Sequence[str]:
        """Return its stored secrets."""
        return self.secrets(row)

    def identity_of(self, body: Body) -> Identity:
        """Return the fields of the body that name it."""
        return texts(body, *self.identity)

    def write(self, request: Request, row: Any | None, identity: Identity, body: Body, *, whole: bool) -> Any:
        """Apply a file of this one object. The row has `issued_secret` where one was made."""
        del row  # the file's code finds it by its name
        given = self.writable(body)
        self._require_parts(request, given)
        for name, value in identity.items():
            if name in given and not _same(name, given[name], value):
                raise invalid(name, f"must be {value}, as in the address")
        if whole:  # the file's code lets out what the row has already
            for name, field in self.serializer().fields.items():
                if field.required and not field.read_only and name not in {*given, *identity}:
                    raise invalid(name, "required")
        written = {**(_filled(self.fresh(), given) if whole else given), **identity}
        changes = self.apply(written)
        saved = self.find(identity, Seen(everything=True))
        assert saved is not None
        saved.issued_secret = next(iter(changes.secrets.values()), None)
        saved.warnings = changes.warnings
        return saved

    def apply(self, written: Mapping[str, Any]) -> Changes:
        """Apply one object. Raises BadRequest with every problem by its field."""
        problems = Problems()
        try:
            entry = self.read(Sections(problems), dict(written), ENTRY)
            problems.raise_if_any()
            assert entry is not None
            listed: dict[str, Any] = {self.section: (entry,)}
            document = replace(NOTHING, **listed)
            existing = existing_for(document)
            check_against_rows(document, existing, problems)
            problems.raise_if_any()
        except ConfigFileError as problem:
            raise refused(problem, ENTRY) from None
        return Applier(document, existing).apply()

    def _require_parts(self, request: Request, given: Body) -> None:
        """Raise Forbidden where rows of other models would be written that one may not write."""
        for name, models in self.parts.items():
            if name in given:
                for verb in ("add", "change", "delete"):
                    access.require(request, models, verb)


def _same(name: str, given: Any, value: Any) -> bool:
    if name != "effective_from" or not isinstance(given, str):
        return bool(given == value)
    try:
        return moment(given) == moment(value)
    except ValueError:
        return False


def _filled(fresh: Mapping[str, Any], given: Body) -> dict[str, Any]:
    """Return what is given, and for the rest what a new one has; inside groups of fields, too."""
    filled = {**fresh, **given}
    for name, usual in fresh.items():
        if isinstance(usual, dict) and usual and isinstance(given.get(name), dict):
            filled[name] = {**usual, **given[name]}
    return filled


def existing_for(document: Document) -> Existing:
    """Return the rows that a document of one object is about, and no others."""
    tenants = {entry.row["name"] for entry in document.tenants}
    tenants |= {entry.row["tenant"] for entry in document.keys if "tenant" in entry.row}
    names = [entry.row["name"] for entry in document.keys]
    digests = [entry.row["digest"] for entry in document.keys if "digest" in entry.row]
    prices: dict[tuple[Any, ...], Price] = {}
    for entry in document.prices:
        found = Price.objects.filter(
            source=Price.Source.OPERATOR,
            provider__name=entry.row["provider"],
            model=entry.row["model"],
            effective_from=entry.row["effective_from"],
        ).first()
        if found:
            prices[entry.row["provider"], entry.row["model"], entry.row["effective_from"]] = found
    routes = {}
    for entry in document.routes:
        kind, match = entry.row["kind"], entry.row["match"]
        if route := Route.objects.filter(kind=kind, match=match).first():
            routes[kind, match] = route
    providers = {row.name: row for row in Provider.objects.all()}
    concerned = [
        providers[each.row["name"]].pk for each in document.providers if each.row["name"] in providers
    ]
    further: dict[int, list[Credential]] = {pk: [] for pk in concerned}
    for credential in Credential.objects.filter(provider__in=concerned).order_by("position", "id"):
        further[credential.provider_id].append(credential)
    return Existing(
        settings=GatewaySettings.objects.filter(pk=1).first() or GatewaySettings(),
        providers=providers,
        credentials=further,
        routes=routes,
        tenants={row.name: row for row in Tenant.objects.filter(name__in=tenants)},
        keys=ApiKey.objects.in_bulk(names, field_name="name"),
        key_names={
            digest: name
            for column in ("previous_digest", "digest")
            for digest, name in ApiKey.objects.filter(**{f"{column}__in": digests}).values_list(
                column, "name"
            )
        },
        prices=prices,
        rate_limits={},
        budgets={},
    )
