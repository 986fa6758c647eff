import orjson

from providers.events import Answer, Event, Kind


def test_it_parses_choices_once_and_only_when_asked():
    calls = []

    def parse(raw):
        calls.append(raw)
        return [{"index": 0}]

    event = Event(Kind.CONTENT, raw=b"raw", parse=parse)
    assert calls == []
    assert event.choices is event.choices
    assert list(event.choices) == [{"index": 0}]
    assert calls == [b"raw"]


def test_it_has_no_choices_when_there_is_nothing_to_parse():
    assert Event(Kind.META, raw=b": ping\n\n").choices == ()
    assert Event(Kind.DONE, choices=()).choices == ()


def test_it_shows_its_kind_and_bytes():
    assert repr(Event(Kind.DONE, raw=b"x" * 200)) == f"Event(DONE, {b'x' * 80!r})"


def test_it_reads_an_answers_message_once_and_only_when_asked():
    answer = Answer(body=b'{"id": 1}', wire="openai.chat", usage=None, finish_reasons=())
    assert answer.message == {"id": 1}
    assert answer.message is answer.message
    known = {"id": 2}
    same = Answer(body=orjson.dumps(known), wire="", usage=None, finish_reasons=(), message=known)
    assert same.message is known


def test_an_answer_can_say_something_else_in_the_form_that_it_has():
    answer = Answer(
        body=b'{"id": 1}',
        wire="anthropic.messages",
        usage=None,
        finish_reasons=("stop",),
        parse=lambda body: {"canonical": orjson.loads(body)["id"]},
    )
    other = answer.saying({"id": 2})
    assert (other.body, other.wire, other.finish_reasons) == (b'{"id":2}', "anthropic.messages", ("stop",))
    assert (other.message, answer.message) == ({"canonical": 2}, {"canonical": 1})
    canonical = Answer(usage=None, finish_reasons=(), message={"id": 1}).saying({"id": 2})
    assert (canonical.body, canonical.message) == (b"", {"id": 2})
