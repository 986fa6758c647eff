"""Middlewares for tests: named by dotted paths, and counted."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson

from keys.caller import Caller
from providers.call import Call
from providers.wires import CHAT
from proxy.asgi import lane
from proxy.errors import Forbidden
from proxy.middleware.base import Asked, Context, Watch
from proxy.tests.fakes import SECRET, Client, chat_request, make_completion, spool_lines

SAY = [{"role": "user", "content": "hello"}]
CALLER = Caller(1, 2, "ci", "test")


def asked(body=None, **fields):
    return Asked("chat", {}, {"model": "m", "messages": []} if body is None else body, CALLER, **fields)


def context(**call):
    fields = {
        "wire": CHAT,
        "model": "m",
        "body": {"messages": [{"role": "user", "content": "hi"}]},
        "raw": b"",
    }
    return Context(make_completion(), Call(**{**fields, **call}), CALLER)


class Refusing:
    async def request(self, _asked):
        raise Forbidden("No.")


class Renaming:
    async def request(self, asked):
        return replace(asked, body={**asked.body, "model": asked.body["model"] + "!"})


class Failing(Watch):
    changes_events = False
    wants_whole = False

    async def request(self, _asked):
        raise RuntimeError("secret words")

    def begin(self, _context):
        return self

    def head(self, _headers):
        raise RuntimeError("head")

    def events(self, _events):
        raise RuntimeError("events")

    def answer(self, _answer):
        raise RuntimeError("answer")

    def finished(self, _completion, _whole):
        raise RuntimeError("finished")


class FailingChange(Failing):
    changes_events = True


class FailingAtOnce(FailingChange):
    def begin(self, _context):
        raise RuntimeError("begin")


class Looking(Watch):
    changes_events = False
    wants_whole = True

    def __init__(self):
        self.seen = []
        self.ends = []

    def begin(self, _context):
        return self

    def head(self, headers):
        headers.append((b"x-seen", b"yes"))

    def events(self, events):
        self.seen += events
        return ["what a watch that only looks returns is not looked at"]

    def answer(self, answer):
        self.seen.append(answer)

    def finished(self, completion, whole):
        self.ends.append((completion, whole))


class Indifferent(FailingChange):
    def begin(self, _context):
        return None


class Nothing:
    pass


class Sync:
    def request(self, asked):
        return asked


class Undecided:
    def begin(self, _context):
        return None


class Demanding:
    def __init__(self, wish):
        self.wish = wish


def path(kind):
    return f"{kind.__module__}.{kind.__qualname__}"


# ---------------------------------------------------------------- where the gateway calls them


class Recorder:
    """Sees everything and keeps it in order; `told` of each answer, by its completion's id."""

    changes_events = False
    wants_whole = True

    def __init__(self):
        self.told = {}
        self.whole: Any = None

    def begin(self, context):
        seen = self.told[context.completion.id] = ["begin"]
        return Noting(self, seen)

    @property
    def only(self):
        (seen,) = self.told.values()
        return seen

    @property
    def ends(self):
        return [each for seen in self.told.values() for each in seen if each.startswith("end")]


class Noting(Watch):
    def __init__(self, recorder, seen):
        self.recorder, self.seen = recorder, seen

    def head(self, headers):
        assert dict(headers)[b"content-type"]
        headers.append((b"x-seen", b"yes"))
        self.seen.append("head")

    def events(self, events):
        self.seen += [event.kind.name for event in events]
        return events

    def answer(self, answer):
        assert answer.message
        self.seen.append("answer")
        return answer

    def finished(self, completion, whole):
        self.seen.append(f"end {completion.outcome} {completion.status}")
        self.recorder.whole = whole


class ChangingRecorder(Recorder):
    changes_events = True


class Breaking(Watch):
    """Fails in one of its methods."""

    wants_whole = False

    def __init__(self, where, *, changes=True, after=0):
        self.where, self.changes_events, self.after = where, changes, after

    def _fail(self, where):
        if where == self.where:
            self.after -= 1
            if self.after < 0:
                raise RuntimeError("secret words")

    def begin(self, _context):
        self._fail("begin")
        return self

    def head(self, _headers):
        self._fail("head")

    def events(self, events):
        self._fail("events")
        return events

    def answer(self, answer):
        self._fail("answer")
        return answer


class Asking:
    """A request middleware made of a function."""

    def __init__(self, change):
        self.change, self.seen = change, []

    async def request(self, asked):
        self.seen.append(asked)
        return self.change(asked)


def refuse(_asked):
    raise Forbidden("Not today.", code="house_rule")


def with_body(**fields):
    return Asking(lambda asked: replace(asked, body={**asked.body, **fields}))


FORMATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-4o", "messages": SAY},
    "/v1/completions": {"model": "gpt-4o", "prompt": "hello"},
    "/v1/messages": {"model": "gpt-4o", "messages": SAY, "max_tokens": 9},
    "/v1/messages/count_tokens": {"model": "gpt-4o", "messages": SAY},
    "/v1/responses": {"model": "gpt-4o", "input": "hello"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "hello"},
    "/api/chat": {"message": "hello"},
    "/api/chat/stream": {"message": "hello"},
    "/v1/moderations": {"model": "omni-moderation", "input": "hello"},
    "/v1/batches": {"input_file_id": "file-1"},
}


async def settled(gateway):
    """Wait for what goes on in the background, and until everybody has heard of the end."""
    while gateway._tasks:
        await asyncio.gather(*gateway._tasks, return_exceptions=True)
    await asyncio.to_thread(gateway.middleware.response.close)


async def ask(gateway, **fields):
    """Send one chat request; return the client with its answer when everybody has heard of it."""
    client = await chat_request(**fields).run(lane)
    await settled(gateway)
    return client


async def post(path, body, **headers):
    """Send a body, or its JSON, with the key."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    client = Client("POST", path, raw, **{"authorization": f"Bearer {SECRET}", **headers})
    return await client.run(lane)


def records(gateway):
    """Return what was recorded of the requests that have ended."""
    return [line for line in spool_lines(gateway.env.data_dir / "spool") if line["kind"] == "done"]
