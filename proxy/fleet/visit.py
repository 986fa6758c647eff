"""One attempt as its upstream sees it: from its start to the end of its answer.

Whoever makes a visit ends it, once, in one of four ways: `ended` (the answer is whole), `failed`, `left`
(nobody's failure: the client has gone, or another upstream was faster). A stream tells its first content
in between: `content`. Nothing here waits.
"""

import asyncio
from collections.abc import Mapping

from providers.errors import Owner, UpstreamError
from providers.own_credential import take_for_own
from providers.upstream import Upstream
from proxy.fleet.gate import Gate
from proxy.fleet.standing import Standing

MAX_REASON = 100


class Visit:
    """Counts as under way until it ends. `upstream`: the target, by the credential that shows us."""

    __slots__ = (
        "_began",
        "_gate",
        "_judged",
        "_loop",
        "_mark",
        "_over",
        "_standing",
        "_ticket",
        "target",
        "upstream",
    )

    def __init__(
        self,
        target: Upstream,
        upstream: Upstream,
        *,
        standing: Standing,
        gate: Gate | None,
        tokens: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Begin a call of about `tokens`. The `gate`, if there is one, has been entered."""
        self.target, self.upstream = target, upstream
        self._standing, self._gate, self._loop = standing, gate, loop
        self._judged = self._over = False
        self._began = loop.time()
        quota = None
        if standing.quotas and not upstream.account.own_credential:
            quota = standing.quotas.get(upstream.account.credential)
        self._mark = None if quota is None else quota.spend(tokens, self._began)
        standing.busy += 1
        self._ticket = standing.breaker.start(self._began)

    def heard(self, headers: Mapping[str, str]) -> None:
        """Learn what is left of the quota, from the headers of an answer that tell of one.

        A client's own quota is its own affair, as are the limits and refusals of its credential.
        """
        if self.upstream.account.own_credential:
            return
        self._standing.quota(self.upstream.account.credential).learn(
            headers, self._loop.time(), mark=self._mark
        )

    def content(self) -> None:
        """The first content of a stream is here."""
        self._judged, standing, now = True, self._standing, self._loop.time()
        standing.breaker.succeeded(self._ticket)
        standing.ttft.observe(now - self._began)
        standing.cost.observe(now - self._began, now)

    def ended(self) -> None:
        """The answer is whole."""
        if not self._judged:
            self._judged, standing, now = True, self._standing, self._loop.time()
            standing.breaker.succeeded(self._ticket)
            standing.total.observe(now - self._began)
            standing.cost.observe(now - self._began, now)
        self._end()

    def failed(self, error: UpstreamError) -> None:
        """The attempt has failed, or the stream has broken off."""
        take_for_own(error, self.upstream.account)
        if self._over:
            return
        now, standing = self._loop.time(), self._standing
        if error.owner is Owner.HEALTH:
            standing.breaker.failed(self._ticket, now, reason=_reason(error))
            if error.timeout:  # a quick failure says nothing about its speed
                standing.cost.observe(now - self._began, now)
        elif not self._judged:
            standing.breaker.released(self._ticket)
        own = bool(self.upstream.account.own_credential)
        if not own and (standing.remembers or self.target.spares):
            self._cool(error, now)
        if error.owner is Owner.HEALTH or not (own or error.owner is Owner.CALLER):
            standing.failed(standing)
        self._judged = True
        self._end()

    def _cool(self, error: UpstreamError, now: float) -> None:
        standing, credential = self._standing, self.upstream.account.credential
        if error.owner is Owner.CAPACITY:
            standing.cooling.cool(credential, now=now, told_s=error.retry_after_s)
        elif error.owner is Owner.CREDENTIAL:
            standing.refused.cool(credential, now=now, told_s=None)

    def left(self) -> None:
        """The attempt is given up, and says nothing about the upstream."""
        if not self._judged:
            self._judged = True
            self._standing.breaker.released(self._ticket)
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._standing.busy -= 1
        if self._gate is not None:
            self._gate.leave()


def _reason(error: UpstreamError) -> str:
    """Return what is shown of a failure: a code. Vendors make up theirs, of any length."""
    if error.code:
        return error.code[:MAX_REASON]
    return f"http_{error.status}" if error.status else "failed"
