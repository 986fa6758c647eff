"""The admin's page that explains a request: a form, and below it the answer in words."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from keys.models import ApiKey, RateLimit
from proxy.api.authentication import caller_of
from proxy.api.explain import ANY_KEY, DEFAULT_ENDPOINT
from proxy.errors import GatewayError
from proxy.explaining.reading import ENDPOINTS, Question
from proxy.explaining.sources import explain
from proxy.models import GatewaySettings, Route

TITLE = "Explain a request"
FALLBACK_MODEL = "demo/echo"
# What becomes of a target: the word on its badge, and the badge's colour.
BADGES: Mapping[str, tuple[str, str]] = {
    "first": ("first", "success"),
    "next": ("on failure", "info"),
    "aside": ("stands by", "default"),
    "shadow": ("shadow", "default"),
    "skipped": ("skipped", "danger"),
}
VERDICTS: Mapping[str, str] = {
    "asked": "A provider is asked.",
    "cached": "It is answered from the cache.",
    "joined": "It joins a request under way.",
    "refused": "It is refused.",
}


class HeadersField(forms.CharField):
    """One header a line, as HTTP writes them; the value is a mapping with lower-case names."""

    def clean(self, value: Any) -> Any:
        """Return the headers. Raises ValidationError that names the line."""
        headers = {}
        for line in super().clean(value).splitlines():
            name, colon, text = line.partition(":")
            if not line.strip():
                continue
            if not (colon and name.strip() and line.isascii() and line.isprintable()):
                raise forms.ValidationError(f"{line.strip()[:60]!r} is not a header: write name: value.")
            headers[name.strip().lower()] = text.strip()
        return headers


class QuestionForm(forms.Form):
    """What the page asks for."""

    key = forms.ModelChoiceField(
        ApiKey.objects.all(),
        required=False,
        label="API key",
        widget=AutocompleteSelect(RateLimit._meta.get_field("key"), admin.site),
        help_text="Whose request it is. Empty: nobody's, and every model is allowed.",
    )
    endpoint = forms.ChoiceField(
        choices=[(path, path) for path in ENDPOINTS],
        initial=DEFAULT_ENDPOINT,
        widget=UnfoldAdminSelectWidget(),
    )
    body = forms.CharField(
        label="Request",
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 11, "spellcheck": "false", "class": "gw-code"}),
        help_text="The JSON that a client sends. It is read here, sent to nobody and kept nowhere.",
    )
    headers = HeadersField(
        required=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={
                "rows": 2,
                "spellcheck": "false",
                "placeholder": "cache-control: no-store",
                "class": "gw-code",
            }
        ),
        help_text="One a line, where they matter: cache-control, the header that keeps a session together.",
    )

    def __init__(self, *arguments: Any, may_see_keys: bool, **options: Any) -> None:
        """Offer keys to those who may see them."""
        super().__init__(*arguments, **options)
        if not may_see_keys:
            del self.fields["key"]

    def question(self) -> Question:
        """Return what is asked."""
        asked = self.cleaned_data
        key = asked.get("key")
        caller = ANY_KEY if key is None else caller_of(key.pk)
        return Question(asked["endpoint"], asked["body"].encode(), caller, asked["headers"])


def explain_view(request: HttpRequest, context: Mapping[str, Any]) -> HttpResponse:
    """Show the form, and what its request would meet. `context`: what each admin page has."""
    if not request.user.has_perm("proxy.view_route"):
        raise PermissionDenied
    may_see_keys = request.user.has_perm("keys.view_apikey")
    explanation, problem, status = None, "", 200
    if request.method == "POST":
        form = QuestionForm(request.POST, may_see_keys=may_see_keys)
        if form.is_valid():
            try:
                explanation = explain(form.question(), now=time.time())
            except GatewayError as error:
                problem, status = error.message, error.status
    else:
        form = QuestionForm(initial={"body": _example(request)}, may_see_keys=may_see_keys)
    shown = {**context, "title": TITLE, "form": form, "problem": problem, "opts": Route._meta}
    if explanation is not None:
        shown |= {"explanation": explanation, **_in_words(explanation)}
    return render(request, "admin/proxy/route/explain.html", shown, status=status)


def _example(request: HttpRequest) -> str:
    """Return a request for the route that the page was opened from, or for the default model."""
    route = Route.objects.filter(pk=_number(request.GET.get("route"))).first()
    model = "" if route is None or route.kind == Route.Kind.REGEX else route.match.removesuffix("*")
    row = GatewaySettings.objects.filter(pk=1).first()
    model = model or (row.default_model if row is not None else "") or FALLBACK_MODEL
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200}
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


# ---------------------------------------------------------------- in words


def _in_words(explanation: Mapping[str, Any]) -> dict[str, Any]:
    verdict = explanation["verdict"]
    return {
        "good": verdict["kind"] != "refused",
        "headline": VERDICTS[verdict["kind"]],
        "targets": [_target(each, place) for place, each in enumerate(explanation["targets"], 1)],
        "routing": list(_routing(explanation)),
        "caching": list(_caching(explanation["cache"])),
        "bounds": list(_bounds(explanation)),
    }


def _target(target: Mapping[str, Any], place: int) -> dict[str, Any]:
    word, colour = BADGES[target["state"]]
    role = target["role"].replace("_", " ")
    return {
        "place": place,
        "provider": target["provider"],
        "model": target["model"],
        "role": "" if role in ("normal", target["state"]) else role,
        "word": word,
        "colour": colour,
        "reasons": [_sentence(each) for each in target["reasons"]],
        "dropped": ", ".join(target.get("dropped_params", ())),
        "credential": target.get("credential", ""),
        "timeouts": _timeouts(target.get("timeouts")),
        "price": _price(target.get("price")),
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _timeouts(timeouts: Mapping[str, float | None] | None) -> str:
    if timeouts is None:
        return ""
    named = ((name.removesuffix("_s").replace("_", " "), value) for name, value in timeouts.items())
    return ", ".join(f"{name} {value:g} s" for name, value in named if value is not None)


def _price(price: Mapping[str, Any] | None) -> str:
    if price is None:
        return ""
    if not price["known"]:
        return "price unknown"
    if price["at_most_usd"] is not None:
        return f"${price['at_most_usd']} at most"
    return f"${price['prompt_usd']} for the prompt; the answer has no cap"


def _routing(explanation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    route, allowed, caller = explanation["route"], explanation["allowed"], explanation["caller"]
    yield "Model asked for", explanation["model"] or "-"
    if route is not None:
        yield (
            "Rule",
            f"{route['id']} (priority {route['priority'] or 0}, {route['strategy'].replace('_', ' ')})",
        )
        yield "Why this rule", _sentence(route["why"])
        others = ", ".join(each["id"] for each in route["also_match"])
        yield "Would match too", others or "nothing"
    yield "Key", caller["key"] or "none chosen"
    if allowed["allowed"] is not None:
        yield "Allowed", f"{'yes' if allowed['allowed'] else 'no'}: {allowed['by'] or _patterns(allowed)}"


def _patterns(allowed: Mapping[str, Any]) -> str:
    allows = f"for {', '.join(allowed['patterns'])}" if allowed["patterns"] else "for every model"
    return f"the key is {allows}" + (f", never {', '.join(allowed['denied'])}" if allowed["denied"] else "")


def _caching(cache: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    reads = f"no: {cache['bypassed_because']}" if cache["bypassed_because"] else "no"
    yield "Read", "yes" if cache["read"] else reads
    yield "Stored afterwards", "yes, if the answer is whole" if cache["write"] else "no"
    if cache["key"]:
        yield "Key", cache["key"]
        stored = {None: "not known here", True: "yes", False: "no"}[cache["stored"]]
        age = f", {cache['age_s']:g} s old (at most {cache['max_age_s'] or 0:g} s)" if cache["stored"] else ""
        yield "There now", stored + age


def _bounds(explanation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    limits = [
        f"{each['name']}: {each['amount']} {each['unit']} in {each['per_s']:g} s"
        for each in explanation["limits"]
    ]
    yield "Limits", "; ".join(limits) or "none"
    settings = explanation["settings"]
    if settings is None:
        return
    yield "Attempts", f"at most {settings['max_attempts']}, in {settings['total_s']:g} s together"
    if settings["sticky_by"]:
        session = settings["session"]
        found = f"by {settings['sticky_by']}: {session or 'this request names no session'}"
        yield "Kept together", found
    if settings["hedges"]:
        after_s = settings["hedge_after_s"]
        yield "Hedged", "not yet: too few answers measured" if after_s is None else f"after {after_s:g} s"
    if settings["continues_streams"]:
        yield (
            "Broken stream",
            "continued by the next target"
            if settings["would_continue"]
            else "not continued: no stream, or several choices",
        )
