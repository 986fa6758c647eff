"""Middlewares for tests: named by dotted paths, and counted."""

from dataclasses import replace

from keys.caller import Caller
from providers.call import Call
from providers.wires import CHAT
from proxy.errors import Forbidden
from proxy.middleware.base import Asked, Context, Watch
from proxy.tests.fakes import make_completion

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
