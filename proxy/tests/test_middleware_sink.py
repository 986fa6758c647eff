"""The sinks of completions, before a real server."""

import hashlib
import hmac
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from providers.usage import Usage
from proxy.completion import Attempt
from proxy.metrics import BACKGROUND
from proxy.middleware import elasticsearch, sink
from proxy.middleware.elasticsearch import CompletionElasticsearch, ElasticsearchTarget
from proxy.middleware.sink import TRIES, Sink, Unsent, record_of
from proxy.middleware.webhook import SIGNATURE, CompletionWebhook, WebhookTarget, signature
from proxy.tests.fakes import Log, make_completion
from proxy.tests.middlewares import context


class Receiver:
    """Answers what its script says, then 200; `script` entries are a status, or (status, body)."""

    def __init__(self):
        self.requests = []
        self.script = []
        self.arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.arrived:
                    told = receiver.script.pop(0) if receiver.script else 200
                    receiver.requests.append((self.path, dict(self.headers.items()), body))
                    receiver.arrived.notify_all()
                status, said = told if isinstance(told, tuple) else (told, b"{}")
                self.send_response(status)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def wait_for(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, timeout=20)

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def webhook(settings, receiver):
    unchanged, made = settings.GATEWAY, []

    def make(secret="", **env):
        settings.GATEWAY = replace(unchanged, **env)
        made.append(Sink(WebhookTarget(receiver.url + "/hook?a=b", secret), gather_s=0.0, first_wait_s=0.001))
        return made[-1]

    yield make
    for each in made:
        each.close(10)


def finished(middleware, *, completion=None, whole=None):
    made = context()
    middleware.begin(made).finished(completion or make_completion(), whole)


def counted(name):
    return {
        outcome: BACKGROUND.labels(queue=name, outcome=outcome)._value.get()
        for outcome in ("done", "failed", "dropped")
    }


def completions(receiver):
    return [each for _, _, body in receiver.requests for each in json.loads(body)["completions"]]


def test_a_record_says_what_the_spool_says():
    completion = make_completion(usage=Usage(1, 2), attempts=[Attempt("openai", "m", 0.0, outcome="ok")])
    record = record_of(completion, context(), None)
    assert (record["id"], record["usage"]["prompt"], record["attempts"][0]["outcome"]) == (
        "boot-0-1",
        1,
        "ok",
    )
    assert not {"prompt", "answer"} & set(record)


def test_the_webhook_gets_facts_and_no_words(receiver, webhook):
    middleware = webhook()
    assert not middleware.wants_whole
    finished(middleware, whole={"choices": [{"message": {"content": "secret words"}}]})
    receiver.wait_for(1)
    ((path, headers, body),) = receiver.requests
    assert (path, headers["content-type"]) == ("/hook?a=b", "application/json")
    assert json.loads(body)["completions"][0]["id"] == "boot-0-1"
    assert b"secret words" not in body
    assert SIGNATURE not in headers


def test_the_webhook_gets_words_if_the_operator_says_so(receiver, webhook):
    middleware = webhook(completion_sink_content=True)
    assert middleware.wants_whole
    finished(middleware, whole={"choices": [{"message": {"content": "words"}}]})
    receiver.wait_for(1)
    (record,) = completions(receiver)
    assert record["prompt"] == {"messages": [{"role": "user", "content": "hi"}]}
    assert record["answer"][0]["message"]["content"] == "words"


def test_the_webhook_signs_what_it_sends(receiver, webhook):
    finished(webhook(secret="shared"))
    receiver.wait_for(1)
    _, headers, body = receiver.requests[0]
    at, digest = (part.partition("=")[2] for part in headers[SIGNATURE].split(","))
    assert digest == hmac.new(b"shared", at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signature(body, b"shared", at=int(at)) == headers[SIGNATURE]


def test_it_tries_again_what_may_succeed_another_time(receiver, webhook):
    receiver.script = [500, 429, 503]
    before = counted("completion_webhook")
    middleware = webhook()
    finished(middleware)
    receiver.wait_for(4)
    middleware.close(10)
    assert len({body for _, _, body in receiver.requests}) == 1
    assert counted("completion_webhook")["done"] == before["done"] + 1


@pytest.mark.parametrize(("script", "tries"), [([400], 1), ([307], 1), ([500] * 20, TRIES)])
def test_it_gives_up_in_the_end_and_goes_on_with_the_next(receiver, webhook, script, tries):
    receiver.script = list(script)
    before = counted("completion_webhook")
    middleware = webhook()
    finished(middleware)
    receiver.wait_for(tries)
    receiver.script = []
    finished(middleware, completion=make_completion(id="boot-0-2"))
    receiver.wait_for(tries + 1)
    middleware.close(10)
    after = counted("completion_webhook")
    assert (after["failed"] - before["failed"], after["done"] - before["done"]) == (1, 1)
    assert completions(receiver)[-1]["id"] == "boot-0-2"


def test_it_survives_a_server_that_is_not_there(webhook, receiver, settings):
    receiver.close()
    before = counted("completion_webhook")
    middleware = webhook()
    finished(middleware)
    middleware.close(10)
    assert counted("completion_webhook")["failed"] == before["failed"] + 1


@pytest.fixture
def log(monkeypatch):
    told = Log()
    monkeypatch.setattr(elasticsearch, "log", told)
    return told


def bulk(*statuses):
    items = [{"create": {"status": status}} for status in statuses]
    return 200, json.dumps({"errors": any(status >= 400 for status in statuses), "items": items}).encode()


@pytest.fixture
def index(receiver):
    target = ElasticsearchTarget(receiver.url + "/", index="llm", api_key="key")
    made = Sink(target, gather_s=3600, first_wait_s=0.001)  # all at once, when it is closed
    yield made
    made.close(10)


def test_elasticsearch_gets_a_batch_of_documents_under_their_ids(receiver, index):
    receiver.script = [bulk(201, 201)]
    finished(index)
    finished(index, completion=make_completion(id="boot-0-2"))
    index.close(10)
    ((path, headers, body),) = receiver.requests
    assert (path, headers["content-type"], headers["authorization"]) == (
        "/_bulk",
        "application/x-ndjson",
        "ApiKey key",
    )
    lines = [json.loads(line) for line in body.splitlines()]
    assert body.endswith(b"\n")
    assert lines[0] == {"create": {"_index": "llm", "_id": "boot-0-1"}}
    assert (lines[1]["id"], lines[1]["@timestamp"]) == ("boot-0-1", 1_800_000_000_000)
    assert lines[2]["create"]["_id"] == "boot-0-2"


def test_elasticsearch_gets_again_only_what_it_had_no_room_for(receiver, index, log):
    receiver.script = [bulk(409, 429, 400, 503), bulk(201, 201)]
    index._send([record_of(make_completion(id=f"c{number}"), context(), None) for number in range(4)])
    again = [json.loads(line) for line in receiver.requests[1][2].splitlines()][::2]
    assert [each["create"]["_id"] for each in again] == ["c1", "c3"]
    assert log.of("completions_refused") == [{"target": "completion_elasticsearch", "count": 1}]


def test_elasticsearch_that_never_has_room_is_a_failure(receiver, index):
    receiver.script = [bulk(429)] * TRIES
    with pytest.raises(Unsent, match="1 records found no room"):
        index._send([record_of(make_completion(), context(), None)])
    assert len(receiver.requests) == TRIES


def test_closing_tries_once_more_and_no_longer(receiver, index):
    receiver.script = [500] * 5
    finished(index)
    index.close(10)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("said", [b"", b"[]", b'{"errors": true}', b'{"errors": true, "items": [1]}'])
def test_what_does_not_speak_the_bulk_api_is_a_failure(receiver, index, said):
    receiver.script = [(200, said)]
    before = counted("completion_elasticsearch")
    finished(index)
    index.close(10)
    assert counted("completion_elasticsearch")["failed"] == before["failed"] + 1


def test_both_take_their_options_from_the_environment(settings):
    settings.GATEWAY = replace(
        settings.GATEWAY,
        completion_webhook_url="https://hook.example/x",
        completion_webhook_secret="s",
        completion_elasticsearch_url="https://es.example",
        completion_elasticsearch_index="i",
        completion_elasticsearch_api_key="k",
    )
    hook, index = CompletionWebhook()._target, CompletionElasticsearch()._target
    assert (hook._url, hook._secret) == ("https://hook.example/x", b"s")
    assert (index._url, index._index, index._headers["authorization"]) == (
        "https://es.example/_bulk",
        "i",
        "ApiKey k",
    )


def test_waits_grow_up_to_a_limit_and_differ(settings):
    made = Sink(WebhookTarget("http://x.example", ""))
    waits = [made._wait_s(tried) for tried in range(1, 12)]
    assert 0.25 <= waits[0] <= 0.5
    assert all(wait <= sink.LONGEST_WAIT_S for wait in waits)
    assert waits[-1] >= sink.LONGEST_WAIT_S / 2
