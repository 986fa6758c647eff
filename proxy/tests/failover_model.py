"""What the retry loop should do, said simply: lists, one request at a time, a clock in hand."""

from dataclasses import dataclass, field

from providers.errors import AUTH_FAILED, CONTENT_FILTERED, CONTEXT_EXCEEDED, Owner, UpstreamError
from proxy.errors import Inexpressible

GUESS_S, BASE_S, CAP_S = 60.0, 0.25, 8.0
WAIT_S = 30.0  # for a limit that another request was told
SPREAD = 0.125  # a power of two, like all times here: sums of them are exact
CONTEXT, FILTER = "context", "filter"
# What a vendor may do. A number in the name is its Retry-After in seconds.
FAULTS = ("503", "503+2", "reset", "timeout", "408", "401", "402", "429", "429+1", "429+4", "429+64", "400")
OUTCOMES = ("ok", *FAULTS, CONTEXT, FILTER, "inexpressible")


def problem_of(outcome):
    """Return the error that an outcome stands for."""
    what, _, told = outcome.partition("+")
    told_s = float(told) if told else None
    status = int(what) if what.isdecimal() else None
    if outcome == "inexpressible":
        return Inexpressible("It cannot be said.", param="seed")
    if outcome in (CONTEXT, FILTER):
        code = CONTEXT_EXCEEDED if outcome == CONTEXT else CONTENT_FILTERED
        return UpstreamError(outcome, owner=Owner.CALLER, status=400, code=code)
    owner = {"401": Owner.CREDENTIAL, "402": Owner.CREDENTIAL, "429": Owner.CAPACITY, "400": Owner.CALLER}
    timeout = "first content" if what == "timeout" else ""
    refused = AUTH_FAILED if what == "401" else None
    return UpstreamError(
        outcome,
        owner=owner.get(what, Owner.HEALTH),
        status=status,
        code=refused,
        timeout=timeout,
        retry_after_s=told_s,
    )


@dataclass
class Target:
    """An upstream by its id, its account, and the names of its credentials."""

    id: str
    account: str
    credentials: tuple[str, ...]


@dataclass
class Model:
    """All that is remembered between requests. `share`: where in its range each random number falls."""

    threshold: int
    window_s: float
    half_open_after_s: float
    share: float
    now: float = 1000.0
    failures: dict[str, list[float]] = field(default_factory=dict)
    open_until: dict[str, float] = field(default_factory=dict)  # and half-open from then on
    limited: dict[tuple[str, str], tuple[bool, float]] = field(default_factory=dict)  # told, until
    refused: dict[tuple[str, str], float] = field(default_factory=dict)

    def look(self, target):
        """Return ("open" | "wait" | "last" | "good", from when on, by which credential)."""
        if self.open_until.get(target.id, 0) > self.now:
            return "open", self.open_until[target.id], None
        waits, last = [], []
        for credential in target.credentials:
            told, until = self.limited.get((target.id, credential), (False, 0.0))
            if told and until > self.now:
                waits.append(until)
            elif until > self.now or self.refused.get((target.account, credential), 0) > self.now:
                last.append(credential)
            else:
                return "good", self.now, credential
        return ("last", self.now, last[0]) if last else ("wait", min(waits), None)

    def hear(self, target, credential, outcome):
        """Remember what came of an attempt."""
        what, _, told = outcome.partition("+")
        if outcome == "ok":
            if target.id in self.open_until:
                del self.open_until[target.id]
                self.failures[target.id] = []
        elif what in ("503", "reset", "timeout", "408"):
            failed_at = [*self.failures.get(target.id, []), self.now]
            self.failures[target.id] = failed_at
            recent = sum(at > self.now - self.window_s for at in failed_at)
            if self.threshold and (target.id in self.open_until or recent >= self.threshold):
                self.open_until[target.id] = self.now + self.half_open_after_s
        elif not self.threshold and len(target.credentials) == 1:
            return  # with breakers switched off a lone credential is asked whatever became of it
        elif what == "429":
            word = (bool(told), self.now + (float(told) if told else GUESS_S))
            known = self.limited.get((target.id, credential), (False, 0.0))
            if known[1] <= self.now or word >= known:
                self.limited[target.id, credential] = word
        elif what in ("401", "402"):
            self.refused[target.account, credential] = self.now + GUESS_S


class Request:
    """One request's way: `asked` are (target, credential, when), `end` an outcome or why nobody was asked."""

    def __init__(self, model, targets, chains, *, max_attempts, within_s, script, takes_s):
        self.model, self.chains, self.max_attempts = model, chains, max_attempts
        self.deadline = model.now + within_s
        self.script, self.takes_s = script, takes_s
        self.asked, self.pauses = [], []
        self.waiting, self.later = list(targets), []
        self.not_before, self.out, self.postponed, self.taken = {}, set(), set(), set()
        self.rounds = self.attempts = 0
        self.problem = self.unsaid = None
        self.end = None
        while self.end is None:
            self.step()

    def step(self):
        model = self.model
        if not self.waiting:
            self.next_round()
            return
        target = self.waiting.pop(0)
        kind, _, credential = model.look(target)
        if kind in ("open", "wait"):
            self.later.append(target)
        elif kind == "last" and self.waiting and target.id not in self.postponed:
            self.postponed.add(target.id)
            self.waiting.append(target)
        else:
            self.ask(target, credential)

    def ask(self, target, credential):
        model = self.model
        self.asked.append((target.id, credential, model.now))
        outcome = self.script.pop(0) if self.script else "ok"
        if outcome == "inexpressible":
            self.unsaid = self.unsaid or outcome
            return
        model.now += self.takes_s
        self.attempts += 1
        model.hear(target, credential, outcome)
        if outcome == "ok":
            self.end = "ok"
            return
        self.problem = outcome
        if self.attempts == self.max_attempts or model.now >= self.deadline:
            self.end = outcome
        elif outcome in (CONTEXT, FILTER, "400"):
            self.out.add(target.id)
            chain = [each for each in self.chains.get(outcome, ()) if each.id not in self.out]
            if not chain or outcome in self.taken:
                self.end = outcome
            self.taken.add(outcome)
            self.waiting = [each for each in chain if self.not_before.get(each.id, 0) <= model.now]
            self.later = [each for each in chain if self.not_before.get(each.id, 0) > model.now]
        else:
            self.put_back(target, outcome)

    def put_back(self, target, outcome):
        what, _, told = outcome.partition("+")
        if (
            what in ("401", "402", "429")
            and len(target.credentials) > 1
            and self.model.look(target)[0] == "good"
        ):
            self.waiting.insert(0, target)
        elif what in ("401", "402", "timeout", "408"):
            self.out.add(target.id)
        else:
            backoff_s = self.model.share * min(CAP_S, BASE_S * 2 ** (self.rounds + 1))
            self.not_before[target.id] = self.model.now + (float(told) if told else backoff_s)
            self.later.append(target)

    def next_round(self):
        model = self.model
        self.rounds += 1
        looks = [(target, *model.look(target)[:2]) for target in self.later]
        ready = {
            target.id: max(
                at + model.share * SPREAD * (at - model.now), self.not_before.get(target.id, model.now)
            )
            for target, kind, at in looks
            if kind != "open" and (target.id in self.not_before or at - model.now <= WAIT_S)
        }
        if not ready and any(kind == "wait" for _, kind, _ in looks):
            self.end = self.problem or "upstream_rate_limited"
            return
        if not ready:
            is_open = any(kind == "open" for _, kind, _ in looks)
            self.end = self.problem or ("circuit_open" if is_open else self.unsaid)
            return
        at = min(ready.values())
        if at >= self.deadline:
            self.end = self.problem or "upstream_rate_limited"
            return
        if at > model.now:
            self.pauses.append(at - model.now)
            model.now = at
        self.waiting = [each for each in self.later if ready.get(each.id, at + 1) <= at]
        self.later = [each for each in self.later if each not in self.waiting]
