import pytest

from keys.caller import Caller, KeyTerms
from proxy.destination import destination, require_allowed
from proxy.errors import BadRequest, Forbidden, NotFound, Unavailable
from proxy.tests.fakes import make_snapshot, provider_row, route_row, settings_row


def snapshot(*providers, **parts):
    return make_snapshot(*(providers or ("openai", "vllm")), **parts)


def to(configured, *, model="", provider=""):
    found = destination(configured, model=model, provider=provider, path="/v1/files")
    return found.route, [each.id for each in found.upstreams]


def test_it_goes_by_the_model():
    routes = [route_row("voice", "openai/whisper-1", "vllm/whisper-large")]
    assert to(snapshot(routes=routes), model="voice") == (
        "exact:voice",
        ["openai/whisper-1", "vllm/whisper-large"],
    )
    assert to(snapshot(), model="vllm/bge") == ("provider:vllm", ["vllm/bge"])


def test_it_goes_by_the_provider_that_is_named():
    assert to(snapshot(), provider="vllm") == ("provider:vllm", ["vllm/"])
    assert to(snapshot(), provider="vllm", model="vllm/bge") == ("provider:vllm", ["vllm/bge"])
    assert to(snapshot(), provider="vllm", model="openai/bge") == ("provider:vllm", ["vllm/openai/bge"])


def test_it_goes_to_the_default_provider_or_to_the_only_one():
    default = settings_row(default_provider__name="vllm")
    assert to(snapshot(settings=[default])) == ("default:vllm", ["vllm/"])
    demo = provider_row("demo", base_url="demo://")
    assert to(snapshot(provider_row("openai"), demo)) == ("default:openai", ["openai/"])
    unset = provider_row("spare", credential="${NOT_SET_ANYWHERE}")
    assert to(snapshot(unset, "openai")) == ("default:openai", ["openai/"])
    with pytest.raises(Unavailable, match="NOT_SET_ANYWHERE"):
        to(snapshot(unset))
    with pytest.raises(BadRequest, match="x-gateway-provider") as refused:
        to(snapshot())
    assert refused.value.param == "model"
    with pytest.raises(BadRequest, match="names no provider") as refused:
        destination(snapshot(), model="", provider="", path="/v1/files", names_model=False)
    assert refused.value.param == "provider"


def test_it_leaves_out_who_does_not_speak_the_dialect():
    anthropic = provider_row("anthropic", dialect="anthropic")
    routes = [route_row("both", "anthropic/a", "openai/b")]
    configured = snapshot(anthropic, "openai", routes=routes)
    assert to(configured, model="both") == ("exact:both", ["openai/b"])


def test_it_says_who_cannot_answer():
    configured = snapshot(provider_row("demo", base_url="demo://"), "openai")
    with pytest.raises(BadRequest, match="'demo' \\(is built in\\)"):
        to(configured, model="demo/echo")
    with pytest.raises(BadRequest, match=r"has no /v1/files"):
        to(configured, provider="demo")
    with pytest.raises(NotFound, match="no provider 'nobody'"):
        to(configured, provider="nobody")
    unset = snapshot(provider_row("openai", credential="${NOT_SET_ANYWHERE}"))
    with pytest.raises(Unavailable, match="NOT_SET_ANYWHERE"):
        to(unset, provider="openai")


def caller(*allowed):
    return Caller(1, 2, "ci", "test", allowed=allowed)


def check(allowed, model, provider="openai"):
    configured = snapshot()
    found = destination(configured, model=model, provider=provider, path="/v1/x")
    require_allowed(configured, caller(*allowed), found, model=model, named=bool(provider))


@pytest.mark.parametrize("allowed", [(), ("*",), ("openai/*",), ("whisper*",), ("openai/whisper-1",)])
@pytest.mark.parametrize("provider", ["openai", ""])
@pytest.mark.parametrize("model", ["whisper-1", "openai/whisper-1"])
def test_a_key_may_use_its_models(allowed, model, provider):
    configured = snapshot(settings=[settings_row(default_provider__name="openai")])
    found = destination(configured, model=model, provider=provider, path="/v1/x")
    require_allowed(configured, caller(*allowed), found, model=model, named=bool(provider))


@pytest.mark.parametrize("allowed", [("gpt-4o*",), ("openai/gpt*",), ("vllm/*",)])
@pytest.mark.parametrize("model", ["", "whisper-1"])
def test_a_key_for_some_models_may_not_name_none(allowed, model):
    """A file of batch requests may name any."""
    with pytest.raises(Forbidden) as refused:
        check(allowed, model)
    assert refused.value.code == "model_not_allowed"


def test_a_key_for_one_provider_may_not_name_another():
    """Some vendors' models have others' names in theirs: OpenRouter's openai/gpt-5."""
    check(("vllm/*",), "vllm/bge", provider="")
    with pytest.raises(Forbidden):
        check(("vllm/*",), "vllm/bge", provider="openai")
    with pytest.raises(Forbidden):
        check(("vllm/*",), "openai/vllm/bge", provider="")
    check(("bge/*",), "openai/bge/m3", provider="")  # there is no such provider: it is a model's name


@pytest.mark.parametrize("allowed", [(), ("*",), ("openai/*",)])
def test_a_key_for_all_of_a_provider_may(allowed):
    check(allowed, "")


# ---------------------------------------------------------------- denied models


def denied(*patterns, model, provider="openai"):
    """Is a request for a model of a provider refused to a key that is denied these patterns?"""
    configured = snapshot(settings=[settings_row(default_provider__name="openai")])
    found = destination(configured, model=model, provider=provider, path="/v1/x")
    holder = Caller(1, 2, "ci", "test", terms=KeyTerms(denied=patterns))
    try:
        require_allowed(configured, holder, found, model=model, named=bool(provider))
    except Forbidden as refused:
        return refused.code == "model_not_allowed"
    return False


@pytest.mark.parametrize("provider", ["openai", ""])
@pytest.mark.parametrize("model", ["whisper-1", "openai/whisper-1"])
def test_a_denied_model_is_refused_under_each_of_its_names(model, provider):
    for pattern in ("whisper-1", "whisper*", "openai/whisper-1", "openai/*", "*"):
        assert denied(pattern, model=model, provider=provider)
    for pattern in ("whisper-2", "vllm/*", "tts*"):
        assert not denied(pattern, model=model, provider=provider)


def test_who_names_no_model_must_be_denied_none_of_the_providers():
    """A file of batch requests may name any."""
    for pattern in ("gpt-4o", "openai/gpt-4o", "openai/*", "meta-llama/*", "*"):
        assert denied(pattern, model="")
    assert not denied("vllm/*", model="")


def test_a_denied_model_is_refused_though_it_is_allowed():
    configured = snapshot()
    found = destination(configured, model="whisper-1", provider="openai", path="/v1/x")
    holder = caller("openai/*")._replace(terms=KeyTerms(denied=("whisper*",)))
    with pytest.raises(Forbidden):
        require_allowed(configured, holder, found, model="whisper-1", named=True)
