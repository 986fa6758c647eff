"""What a caller may know of the explanation of its own request: what concerns it, and not how we are wired.

Left out: other routes, credentials' names, shadows, why a provider cannot be used (it may name a
variable), which pattern excludes a model from the cache, and how busy others keep the gateway.
"""

from collections.abc import Mapping
from typing import Any

from proxy.explaining.targets import SKIPPED

_OF_ROUTE = ("id", "kind", "match", "strategy", "why")
_OF_TARGET = (
    "state",
    "provider",
    "model",
    "role",
    "share_percent",
    "reasons",
    "dropped_params",
    "refused_param",
    "context_window",
    "timeouts",
    "price",
)


def for_caller(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an explanation that its caller may see."""
    told = dict(explanation)
    if told["route"] is not None:
        told["route"] = {name: told["route"][name] for name in _OF_ROUTE}
    told["targets"] = [_target(each) for each in told["targets"] if each["role"] != "shadow"]
    because = told["cache"]["bypassed_because"]
    if because is not None and because.startswith("excluded"):
        told["cache"] = {**told["cache"], "bypassed_because": "its model is excluded"}
    verdict = told["verdict"]
    if verdict.get("code") == "no_usable_provider":
        told["verdict"] = {**verdict, "message": "No usable provider serves this model at the moment."}
    return told


def _target(target: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: target[name] for name in _OF_TARGET if name in target}
    if "dialect" not in target:  # its provider cannot be used
        told["reasons"] = ["its provider cannot be used at the moment"]
    elif told["state"] != SKIPPED:
        told["reasons"] = [each for each in told["reasons"] if "slots are taken" not in each]
    return told
