"""Leaves out the targets whose model surely cannot hold a prompt, so that nobody is asked in vain."""

from collections.abc import Sequence

from providers.upstream import Upstream

# The guess of a prompt's tokens may be as much too high: prose in some languages, code with long lines.
DOUBT = 2


def fitting(
    upstreams: Sequence[Upstream], tokens: int, larger: Sequence[Upstream] = ()
) -> Sequence[Upstream]:
    """Return the upstreams that may hold a prompt of about `tokens`; if none does, the `larger` ones.

    With nobody larger either all are returned: the vendor knows best, and says so.
    """
    sure = tokens // DOUBT
    for each in upstreams:  # a plain loop, as every request comes by
        if each.context_window is not None and sure > each.context_window:
            break
    else:
        return upstreams
    return (
        [each for each in upstreams if _fits(each, sure)]
        or [each for each in larger if _fits(each, sure)]
        or upstreams
    )


def _fits(upstream: Upstream, tokens: int) -> bool:
    return upstream.context_window is None or tokens <= upstream.context_window
