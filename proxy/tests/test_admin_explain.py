"""The admin's page that explains a request."""

import orjson
import pytest
from django.urls import reverse

from config.tests.admin_kit import messages_in, operator, page, signed_in
from keys.models import ApiKey, Tenant
from providers.models import Provider
from proxy import lifecycle
from proxy.models import GatewaySettings, Route, Target

pytestmark = pytest.mark.django_db

URL = "/admin/proxy/route/explain/"
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No gateway of another test serves in this process."""
    monkeypatch.setattr(lifecycle, "_gateway", None)


@pytest.fixture
def client():
    return operator()


@pytest.fixture
def route():
    vendors = [
        Provider.objects.create(name=name, dialect="openai", base_url="https://hidden.example/v1", **fields)
        for name, fields in {
            "openai": {"drop_unsupported_params": True, "quirks": {"unsupported_params": ["seed"]}},
            "spare": {},
            "off": {"enabled": False},
        }.items()
    ]
    route = Route.objects.create(match="gpt-4o*", kind="prefix", sticky="user", hedge=True)
    for position, vendor in enumerate(vendors):
        Target.objects.create(route=route, provider=vendor, position=position)
    Target.objects.create(route=route, provider=vendors[1], model="copy", role="shadow", position=9)
    return route


def ask(client, body, **fields):
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    form = {"endpoint": "/v1/chat/completions", "body": text, "headers": "", "key": "", **fields}
    response = client.post(URL, form)
    return response, messages_in(response.content.decode())


def test_it_offers_an_example_for_the_route_it_is_opened_from(client, route):
    GatewaySettings.objects.create(default_model="house/default")
    assert "house/default" in page(client, URL)
    assert "&quot;gpt-4o&quot;" in page(client, URL, route=route.pk)
    for wrong in ("x", "-1", "9" * 30, str(route.pk + 1)):
        assert "house/default" in page(client, URL, route=wrong)
    Route.objects.filter(pk=route.pk).update(kind="regex")
    assert "house/default" in page(client, URL, route=route.pk)


def test_it_is_found_from_the_routes_and_the_sidebar(client, route):
    listed = page(client, reverse("admin:proxy_route_changelist"))
    assert f'href="{URL}"' in listed
    assert "explain_any" in listed
    change = page(client, reverse("admin:proxy_route_change", args=[route.pk]))
    assert "explain_this" in change
    assert client.get("/admin/proxy/route/explain_any/").headers["location"] == URL
    button = client.get(f"/admin/proxy/route/{route.pk}/explain_this/")
    assert button.headers["location"] == f"{URL}?route={route.pk}"


def test_it_shows_targets_with_reasons_and_badges(client, route):
    body = {"model": "gpt-4o-mini", "seed": 1, "user": "alice", "messages": MESSAGES}
    response, text = ask(client, body)
    assert response.status_code == 200
    assert "no-store" in response.headers["cache-control"]
    assert "A provider is asked." in text
    assert "Left out of the request: seed" in text
    assert "Its provider is disabled" in text
    assert "Gets a copy of 100 % of the requests" in text
    assert "prefix:gpt-4o*" in text
    assert "by user: alice" in text
    assert "price unknown" in text
    assert "not yet: too few answers measured" in text
    assert "hidden.example" not in response.content.decode()


def test_it_asks_for_the_chosen_key(client, route):
    tenant = Tenant.objects.create(name="acme")
    key, secret = ApiKey.issue(tenant=tenant, name="acme-ci")
    key.allowed_models = ["claude-*"]
    key.save()
    response, text = ask(client, {"model": "gpt-4o", "messages": MESSAGES}, key=str(key.pk))
    assert "It is refused. 403 model_not_allowed" in text
    assert "no: the key is for claude-*" in text
    assert secret not in response.content.decode()


def test_it_says_what_is_wrong_with_the_request_as_the_endpoint_would(client, route):
    for body, told in (("{", "not valid JSON"), ({"model": "gpt-4o"}, "'messages' must be a list")):
        assert told in ask(client, body)[1].replace("&#x27;", "'")


def test_it_reads_headers_a_line_each(client, route):
    body = {"model": "gpt-4o", "messages": MESSAGES}
    _, text = ask(client, body, headers="Cache-Control: no-store\r\n\r\nx-other: 1")
    assert "Cache-Control: no-store" in text
    assert "no: the request says Cache-Control: no-store" in text
    _, text = ask(client, body, headers="no header")
    assert "is not a header" in text


def test_it_escapes_what_it_repeats(client, route):
    response, _ = ask(client, {"model": "<script>alert(1)</script>", "messages": MESSAGES})
    assert b"<script>alert(1)" not in response.content


def test_it_says_when_the_rows_make_no_configuration(client, route):
    Route.objects.filter(pk=route.pk).update(kind="regex", match="(")
    response, text = ask(client, {"model": "gpt-4o", "messages": MESSAGES})
    assert response.status_code == 503
    assert "The rows do not make a configuration" in text


def test_it_is_for_those_who_may_see_routes(route):
    assert signed_in("proxy.view_target").get(URL).status_code == 403
    watcher = signed_in("proxy.view_route")
    assert "API key" not in messages_in(page(watcher, URL)).partition("Where would this request go")[2]
    assert ask(watcher, {"model": "gpt-4o", "messages": MESSAGES})[0].status_code == 200
