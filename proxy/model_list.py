"""`/v1/models`: the models that a key may use, as OpenAI's SDKs read them, or as Anthropic's do."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from keys.caller import Caller
from proxy.admission import may_use
from proxy.errors import GatewayError, NotFound
from proxy.own_credential import STRANGER
from proxy.routing import resolve
from proxy.snapshot import Role, ServedModel, Snapshot


def usable(snapshot: Snapshot, caller: Caller) -> list[ServedModel]:
    """Return what the key may use: the names that exact routes make up, then the providers' models.

    A key that is forced to one model may use that one alone. Who has a vendor's key alone sees what such a
    key may be used for, whichever vendor's it is.
    """
    if caller.terms.forced_route:
        return _forced(snapshot, caller)
    routed = [
        _made_up(name)
        for name, route in snapshot.exact_routes.items()
        if route.targets and _is_for(caller, snapshot, route.targets[0].provider)
    ]
    known = {each.id for each in routed}
    served = [
        each
        for each in snapshot.models
        if each.id not in known and _is_for(caller, snapshot, each.id.partition("/")[0])
    ]
    found = [each for each in routed if caller.may_use(each.id)] + [
        each for each in served if caller.may_use(*snapshot.names(each.id.partition("/")[0], each.name))
    ]
    if not caller.terms.denied:
        return found
    return [each for each in found if not caller.must_not_use(*_names(snapshot, each))]


def _forced(snapshot: Snapshot, caller: Caller) -> list[ServedModel]:
    """Return the one model by the name that it is forced by: nobody's list need have that."""
    name = caller.terms.forced_route
    try:
        if not may_use(snapshot, caller, name, resolve(snapshot, name)):
            return []
    except GatewayError:  # nobody serves it
        return []
    listed = (each for each in snapshot.models if name in (each.id, each.name))
    return [replace(next(listed, _made_up(name)), id=name)]


def _made_up(name: str) -> ServedModel:
    return ServedModel(id=name, name=name, created=0, owned_by="gateway")


def _names(snapshot: Snapshot, served: ServedModel) -> set[str]:
    """Return all names of a model; of one that a route makes up, those of its targets too."""
    route = snapshot.exact_routes.get(served.id)
    if route is None:
        return {served.id, *snapshot.names(served.id.partition("/")[0], served.name)}
    targets = [each for each in route.targets if each.role is not Role.SHADOW]
    return {
        served.id,
        *(name for each in targets for name in snapshot.names(each.provider, each.model or served.id)),
    }


def _is_for(caller: Caller, snapshot: Snapshot, provider: str) -> bool:
    """Are a provider's models for the holders of this gateway's keys alone?"""
    if caller is not STRANGER:
        return True
    account = snapshot.accounts.get(provider)
    return account is not None and account.takes_credential


def named(served: Sequence[ServedModel], name: str) -> ServedModel:
    """Return a model by its prefixed id, or by the vendor's own name. Raises NotFound."""
    for each in served:
        if each.id == name:
            return each
    for each in served:
        if each.name == name:
            return each
    raise NotFound(
        f"The model {name!r} does not exist here, or this key may not use it.",
        code="model_not_found",
        param="model",
    )


def listed(served: Sequence[ServedModel], *, anthropic: bool) -> dict[str, Any]:
    """Return the list in one of the two forms. Anthropic's is one page of all."""
    models = [described(each, anthropic=anthropic) for each in served]
    if not anthropic:
        return {"object": "list", "data": models}
    return {
        "data": models,
        "has_more": False,
        "first_id": served[0].id if served else None,
        "last_id": served[-1].id if served else None,
    }


def described(served: ServedModel, *, anthropic: bool) -> dict[str, Any]:
    """Return one model in one of the two forms.

    https://platform.openai.com/docs/api-reference/models/object
    https://platform.claude.com/docs/en/api/models/list: the epoch stands for an unknown date
    """
    if not anthropic:
        return {
            "id": served.id,
            "object": "model",
            "created": served.created,
            "owned_by": served.owned_by,
        }
    return {
        "type": "model",
        "id": served.id,
        "display_name": served.name,
        "created_at": _moment(served.created),
        "lifecycle": "active",
    }


def _moment(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # some servers tell milliseconds
        moment = datetime.fromtimestamp(0, UTC)
    return moment.isoformat().replace("+00:00", "Z")
