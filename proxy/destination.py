"""Where a request goes that is only passed on: by its model, by a provider that it names, or by default.

Only servers of the openai dialect have these endpoints under these paths.
"""

from typing import NamedTuple

from keys.caller import Caller
from providers.models import DEMO_URL
from providers.upstream import Account, Upstream
from proxy.errors import BadRequest, Forbidden, NotFound, Unavailable
from proxy.routing import resolve
from proxy.snapshot import Snapshot

DIALECT = "openai"
NAME_IT = "Name one in the header x-gateway-provider or in ?provider=."


class Destination(NamedTuple):
    """The upstreams that may be asked, best first. An upstream's model is empty where none is asked for.

    `own_credential`: some of them by a credential of the client's own, for one request.
    """

    route: str
    upstreams: tuple[Upstream, ...]
    own_credential: bool = False

    @property
    def all_upstreams(self) -> tuple[Upstream, ...]:
        """Return everyone who may answer."""
        return self.upstreams


def destination(
    snapshot: Snapshot, *, model: str, provider: str, path: str, names_model: bool = True
) -> Destination:
    """Return where a request goes. Raises BadRequest, NotFound or Unavailable.

    `model` and `provider` are what it names, or empty; `path`, and whether it might name a model, are for the
    words of an error.
    """
    if provider:
        return _named(snapshot, provider, model, path)
    if not model:
        name = _default(snapshot, path, names_model=names_model)
        return Destination(f"default:{name}", (snapshot.upstream(name, ""),))
    resolved = resolve(snapshot, model)
    fit = tuple(upstream for upstream in resolved.upstreams if _has_it(upstream.account))
    if not fit:
        raise BadRequest(
            f"The model {model!r} is served by {_described(resolved.upstreams[0].account)}; "
            f"{path} is passed on to providers of the {DIALECT} dialect alone.",
            code="unsupported_endpoint",
            param="model",
        )
    return Destination(resolved.route, fit)


def require_allowed(snapshot: Snapshot, caller: Caller, to: Destination, *, model: str, named: bool) -> None:
    """Check that the key may use the model, or where none is named, all of the provider. Raises Forbidden.

    A file of batch requests may name any model, so it is for keys that may use them all. `named`: the request
    names its provider, so that the model's name alone is not what it asks for.
    """
    if not caller.allowed and not caller.terms.denied:
        return
    if not _is_denied(snapshot, caller, to, model) and (
        (model and not named and caller.may_use(model))
        or all(_may_use(snapshot, caller, upstream) for upstream in to.upstreams)
    ):
        return
    if model:
        raise Forbidden(
            f"This key may not use model {model!r}. GET /v1/models lists what it may use.",
            code="model_not_allowed",
            param="model",
        )
    name = to.upstreams[0].account.name
    raise Forbidden(
        f"This key may use some models only. A request that names none needs a key for all of provider "
        f"{name!r} ({name}/*).",
        code="model_not_allowed",
    )


def forced(caller: Caller, *, asked: str) -> str:
    """Return the model that the key's requests are forced to. Raises Forbidden where none is asked for.

    What names no model is about files and batches: those would be answered by any model.
    """
    if not asked:
        raise Forbidden(
            f"This key is for model {caller.terms.forced_route!r} alone: a request that names no model "
            "is not for it.",
            code="model_not_allowed",
        )
    return caller.terms.forced_route


def _is_denied(snapshot: Snapshot, caller: Caller, to: Destination, model: str) -> bool:
    """Is one of its names denied? Where no model is named: one of the provider's models."""
    if model and caller.must_not_use(model):
        return True
    return any(
        caller.must_not_use(*snapshot.names(each.account.name, each.model))
        if each.model
        else any(_concerns(snapshot, pattern, each.account.name) for pattern in caller.terms.denied)
        for each in to.upstreams
    )


def _concerns(snapshot: Snapshot, pattern: str, provider: str) -> bool:
    """May a model of the provider match the pattern? Not if that is in another one's namespace."""
    prefix, slash, _ = pattern.partition("/")
    return not slash or prefix == provider or prefix not in snapshot.accounts


def _may_use(snapshot: Snapshot, caller: Caller, upstream: Upstream) -> bool:
    provider = upstream.account.name
    names = snapshot.names(provider, upstream.model) if upstream.model else (f"{provider}/*",)
    return caller.may_use(*names)


def require_shared(to: Destination) -> None:
    """Check that what is stored in the vendor's account may be listed by anybody here. Raises Forbidden."""
    account = to.upstreams[0].account
    if not account.shares_stored:
        raise Forbidden(
            f"The account of provider {account.name!r} is shared, and a list would show what other tenants "
            "have stored: ask for things by their ids. An operator may allow it (the provider's "
            "'shares_stored').",
            code="listing_not_allowed",
        )


def _named(snapshot: Snapshot, provider: str, model: str, path: str) -> Destination:
    account = snapshot.accounts.get(provider)
    if account is None:
        raise NotFound(
            f"There is no provider {provider[:100]!r} here, or it is disabled.",
            code="provider_not_found",
            param="provider",
        )
    _check(account, path)
    return Destination(
        f"provider:{provider}", (snapshot.upstream(provider, model.removeprefix(provider + "/")),)
    )


def _default(snapshot: Snapshot, path: str, *, names_model: bool) -> str:
    """Return the provider of a request that names neither: the default one, or the only one there is."""
    account = snapshot.accounts.get(snapshot.default_provider)
    if account is None:
        fit = [each for each in snapshot.accounts.values() if _has_it(each)]
        fit = [each for each in fit if each.usable] or fit
        if len(fit) != 1:
            missing = "neither 'model' nor provider" if names_model else "no provider"
            raise BadRequest(
                f"The request names {missing}, and there is no default provider. {NAME_IT}",
                code="provider_not_named",
                param="model" if names_model else "provider",
            )
        account = fit[0]
    _check(account, path)
    return account.name


def _check(account: Account, path: str) -> None:
    if not _has_it(account):
        raise BadRequest(
            f"{_described(account).capitalize()} has no {path}: that is passed on to providers of the "
            f"{DIALECT} dialect alone. {NAME_IT}",
            code="unsupported_endpoint",
            param="provider",
        )
    if not account.usable:
        raise Unavailable(
            f"Provider {account.name!r} cannot be used at the moment: {account.why_unusable}.",
            code="no_usable_provider",
        )


def _has_it(account: Account) -> bool:
    return account.dialect == DIALECT and account.base_url != DEMO_URL


def _described(account: Account) -> str:
    what = "is built in" if account.base_url == DEMO_URL else f"speaks the {account.dialect} dialect"
    return f"provider {account.name!r} ({what})"
