"""The chains: order, refusals, and what happens when a middleware fails."""

import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from providers.events import Answer, TextEvent, done_event, finish_event
from proxy.errors import Forbidden
from proxy.middleware import chain
from proxy.middleware.base import MiddlewareFailed, Watch
from proxy.middleware.chain import RequestChain, ResponseChain, configured
from proxy.tests import middlewares
from proxy.tests.fakes import Log, environment, make_completion
from proxy.tests.middlewares import (
    Demanding,
    Failing,
    FailingAtOnce,
    FailingChange,
    Indifferent,
    Looking,
    Nothing,
    Refusing,
    Renaming,
    Sync,
    Undecided,
    asked,
    context,
    path,
)
from proxy.tests.test_plain import STREAM, at_once, decoded


@pytest.fixture
def log(monkeypatch):
    told = Log()
    monkeypatch.setattr(chain, "log", told)
    return told


@pytest.fixture
def configure(settings):
    def set_paths(*, request=(), response=(), **env):
        settings.GATEWAY = environment(**env)
        settings.REQUEST_MIDDLEWARE, settings.RESPONSE_MIDDLEWARE = request, response
        return configured()

    return set_paths


def ended(watching, completion=None):
    """End the answer and wait until everyone has heard of it."""
    heard = threading.Event()

    class Last(Watch):
        changes_events = wants_whole = False

        def finished(self, _completion, _whole):
            heard.set()

    watching._watched.append(chain._Watched(Last(), Last()))
    watching.finished(completion or make_completion(model="m"))
    assert heard.wait(10)


# ---------------------------------------------------------------- settings


def test_nothing_configured_is_false(configure):
    chains = configure()
    assert not chains.request
    assert not chains.response


def test_it_makes_each_middleware_once_for_both_directions_and_keeps_it(configure):
    both = path(Failing)
    chains = configure(request=(both,), response=(both,))
    assert chains.request
    assert chains.response
    assert chains.request._middlewares[0] is chains.response._middlewares[0]
    assert configured() is chains


@pytest.mark.parametrize(
    ("kind", "variable", "said"),
    [
        ("request", "REQUEST_MIDDLEWARE", "'no.such.Path' cannot be imported"),
        ("response", "RESPONSE_MIDDLEWARE", "'no.such.Path' cannot be imported"),
    ],
)
def test_a_path_that_leads_nowhere_stops_the_start(configure, kind, variable, said):
    with pytest.raises(ImproperlyConfigured, match=f"^{variable}: {said}"):
        configure(**{kind: ("no.such.Path",)})


@pytest.mark.parametrize(
    ("kind", "middleware", "said"),
    [
        ("request", Nothing, "is no middleware: it has no `async def request`"),
        ("request", Sync, "is no middleware: it has no `async def request`"),
        ("request", Demanding, "cannot be made without arguments"),
        ("response", Nothing, "is no middleware: it has no method `begin`"),
        ("response", Renaming, "is no middleware: it has no method `begin`"),
        ("response", Undecided, "must say `changes_events = True` or `False`"),
    ],
)
def test_what_is_no_middleware_stops_the_start(configure, kind, middleware, said):
    with pytest.raises(ImproperlyConfigured) as problem:
        configure(**{kind: (path(middleware),)})
    assert str(problem.value).startswith(f"{kind.upper()}_MIDDLEWARE: '{path(middleware)}' {said}")


def test_what_is_not_even_callable_stops_the_start(configure):
    with pytest.raises(ImproperlyConfigured, match="is no class of a middleware"):
        configure(request=("proxy.tests.middlewares.CALLER",))


@pytest.mark.parametrize("shipped", ["redaction.Redaction", "headers.ResponseHeaders"])
def test_the_shipped_ones_can_be_made(configure, shipped):
    assert configure(response=(f"proxy.middleware.{shipped}",)).response


@pytest.mark.parametrize(
    ("sink", "variable"),
    [
        ("webhook.CompletionWebhook", "COMPLETION_WEBHOOK_URL"),
        ("elasticsearch.CompletionElasticsearch", "COMPLETION_ELASTICSEARCH_URL"),
    ],
)
def test_the_sinks_say_what_they_lack_and_no_secret(configure, sink, variable):
    dotted = f"proxy.middleware.{sink}"
    with pytest.raises(ImproperlyConfigured, match=f"{variable} is not set"):
        configure(response=(dotted,))
    assert configure(response=(dotted,), **{variable.lower(): "http://sink.example/x"}).response
    with pytest.raises(ImproperlyConfigured, match=f"^{variable} is no URL") as problem:
        configure(response=(dotted,), **{variable.lower(): "hidden-word"})
    assert "hidden-word" not in str(problem.value)


# ---------------------------------------------------------------- requests


async def test_request_middlewares_run_in_order():
    result = await RequestChain([Renaming(), Renaming()]).request(asked())
    assert result.body == {"model": "m!!", "messages": []}


async def test_a_request_that_nobody_changes_is_the_same_object():
    one = asked()
    assert await RequestChain([]).request(one) is one


async def test_a_refusal_reaches_the_client_as_it_is():
    with pytest.raises(Forbidden, match="No"):
        await RequestChain([Refusing(), Failing()]).request(asked())


async def test_a_request_middleware_that_fails_refuses_the_request(log):
    with pytest.raises(MiddlewareFailed) as failure:
        await RequestChain([Failing()]).request(asked())
    assert (failure.value.status, failure.value.code) == (500, "middleware_failed")
    assert "secret words" not in failure.value.message
    assert log.of("request_middleware") == [{"middleware": "Failing"}]


# ---------------------------------------------------------------- answers


def test_an_answer_that_nobody_watches_has_no_watch():
    assert ResponseChain([Indifferent()]).begin(context()) is None


def test_it_says_what_it_needs_of_this_very_answer():
    watching = ResponseChain([Indifferent(), Looking()]).begin(context())
    assert (watching.changes_events, watching.wants_whole) == (False, True)


def test_one_that_only_looks_sees_the_vendors_bytes_and_changes_nothing():
    looking = Looking()
    watching = ResponseChain([looking]).begin(context())
    events = decoded(STREAM, pieces=at_once)
    assert watching.events(events) is events
    answer = Answer(usage=None, finish_reasons=["stop"], message={"choices": []})
    assert watching.answer(answer) is answer
    headers = [(b"a", b"b")]
    watching.head(headers)
    assert headers == [(b"a", b"b"), (b"x-seen", b"yes")]
    assert looking.seen == [*events, answer]


def test_one_that_changes_gets_the_canonical_form_and_the_next_what_it_made():
    class Shouting(Looking):
        changes_events = True
        wants_whole = False

        def events(self, events):
            self.seen += events
            return [TextEvent("HEY"), *[event for event in events if event.kind >= 2]]

        def answer(self, answer):
            return answer.saying({"choices": ["HEY"]})

    shouting, looking = Shouting(), Looking()
    watching = ResponseChain([shouting, looking]).begin(context())
    events = watching.events(decoded(STREAM, pieces=at_once))
    assert not any(event.raw for event in shouting.seen)
    assert looking.seen == list(events)
    assert events[0].text == "HEY"
    answer = watching.answer(Answer(usage=None, finish_reasons=[], message={"choices": []}))
    assert answer.message == {"choices": ["HEY"]}


@pytest.mark.parametrize(
    "use",
    [
        lambda watching: watching.head([]),
        lambda watching: watching.events([TextEvent("x")]),
        lambda watching: watching.answer(Answer(usage=None, finish_reasons=[], message={})),
    ],
    ids=["head", "events", "answer"],
)
def test_one_that_fails_is_left_out_if_it_looks_and_fails_the_answer_if_it_changes(log, use):
    looking = Looking()
    watching = ResponseChain([Failing(), looking]).begin(context())
    use(watching)
    use(watching)
    assert len(log.of("response_middleware")) == 1
    ended(watching)
    assert len(looking.ends) == 1
    with pytest.raises(MiddlewareFailed):
        use(ResponseChain([FailingChange()]).begin(context()))


def test_one_that_fails_at_once_does_the_same(log):
    class Blind(FailingAtOnce):
        changes_events = False

    assert ResponseChain([Blind()]).begin(context()) is None
    looking = Looking()
    watching = ResponseChain([FailingAtOnce(), looking]).begin(context())
    with pytest.raises(MiddlewareFailed):
        watching.require_all()
    ended(watching)
    assert len(looking.ends) == 1


# ---------------------------------------------------------------- the end


def test_the_end_tells_all_of_a_stream():
    looking = Looking()
    watching = ResponseChain([looking]).begin(context())
    for event in decoded(STREAM, pieces=list):
        watching.events([event])
    completion = make_completion(model="m")
    ended(watching, completion)
    ((told, whole),) = looking.ends
    assert told is completion
    assert whole["choices"][0]["message"]["content"] == "Hello, you"
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["total_tokens"] == 3


def test_the_end_tells_a_whole_answer():
    looking = Looking()
    watching = ResponseChain([looking]).begin(context())
    watching.answer(Answer(usage=None, finish_reasons=[], message={"choices": [1]}))
    ended(watching)
    whole = looking.ends[0][1]
    assert whole["choices"] == [1]
    assert whole["object"] == "chat.completion"


def test_the_end_tells_nothing_of_what_nobody_said():
    looking = Looking()
    ended(ResponseChain([looking]).begin(context()))
    assert looking.ends[0][1] is None


def test_what_is_longer_than_anybody_would_keep_is_not_told(monkeypatch):
    monkeypatch.setattr(chain, "MAX_WHOLE_EVENTS", 2)
    looking = Looking()
    watching = ResponseChain([looking]).begin(context())
    for _ in range(3):
        watching.events([TextEvent("x")])
    watching.events([finish_event("stop"), done_event()])
    ended(watching)
    assert looking.ends[0][1] is None


def test_a_callback_that_fails_or_blocks_harms_nobody(log):
    inside, release = threading.Event(), threading.Event()

    class Blocking(Looking):
        def finished(self, _completion, _whole):
            inside.set()
            assert release.wait(10)

    looking = Looking()
    chains = ResponseChain([Failing(), Blocking(), looking])
    chains.begin(context()).finished(make_completion())
    assert inside.wait(10)  # in a thread of its own: this one goes on
    assert looking.ends == []
    release.set()
    chains.close(10)
    assert len(looking.ends) == 1
    assert log.of("completion_callback") == [{"middleware": "Failing"}]


def test_closing_lets_every_middleware_end_what_it_has():
    class Closing(Looking):
        def close(self, timeout_s):
            self.closed = (timeout_s, len(self.ends))

    closing = Closing()
    chains = ResponseChain([Looking(), closing])
    chains.begin(context()).finished(make_completion())
    chains.close(10)
    timeout_s, ends = closing.closed
    assert 0 < timeout_s <= 10
    assert ends == 1


def test_the_fakes_have_paths():
    assert path(Looking) == f"{middlewares.__name__}.Looking"
