"""What admission and settlement cost a worker, on each store: `python -m bench.admitting [REDIS_URL]`.

Prints JSON. Of a key with three rate limits (requests, tokens, at a time) and a budget: more than most have.
Processor time of this process alone, the least of several rounds; 64 requests at a time, as under load, and
one at a time.
"""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gatewaysite.settings")

REQUESTS_A_ROUND, ROUNDS = 2000, 7
AT_A_TIME = (64, 1)


async def measured(store: Any, known: Sequence[Any]) -> dict[str, float]:
    """Return microseconds of admission with its estimate, and of settlement, by requests at a time."""
    numbers, found = itertools.count(), dict[str, float]()
    for at_a_time in AT_A_TIME:
        rounds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(REQUESTS_A_ROUND // at_a_time):
                some = (_one(store, known, next(numbers)) for _ in range(at_a_time))
                await asyncio.gather(*some)
            await asyncio.sleep(0.05)  # settlements are sent by themselves
            rounds.append((time.process_time() - began) / REQUESTS_A_ROUND * 1e6)
        found[str(at_a_time)] = round(min(rounds), 1)
    return found


async def _one(store: Any, known: Sequence[Any], number: int) -> None:
    from proxy.admission import asked  # noqa: PLC0415 - Django must be set up first
    from proxy.cache import BYPASS  # noqa: PLC0415
    from proxy.demand import demanded  # noqa: PLC0415

    now, (asking, held, learned) = time.time(), known
    demand, _ = demanded(f"bench-{number}", held, asking, prompt_bytes=400, learned=learned, now=now)
    admission = await asked(store, BYPASS, demand, now=now)
    store.settle(admission.hold, tokens=30, costs=(20,), now=now)


def _asking() -> Sequence[Any]:
    from keys.caller import Caller, KeyTerms  # noqa: PLC0415 - Django must be set up first
    from keys.limits import CONCURRENT, REQUESTS, TOKENS, Ceiling, RateRule, Rules  # noqa: PLC0415
    from providers.call import Call  # noqa: PLC0415
    from providers.wires import CHAT  # noqa: PLC0415
    from proxy.compiling import compile_parts  # noqa: PLC0415
    from proxy.demand import Asking, Who, applicable  # noqa: PLC0415
    from proxy.learning import Learned  # noqa: PLC0415
    from proxy.routing import resolve  # noqa: PLC0415
    from proxy.rows import SMALL_PARTS, read_part  # noqa: PLC0415

    snapshot = compile_parts(1, {part: read_part(part) for part in SMALL_PARTS}, {})
    rules = Rules(
        rates=(
            RateRule("rate:1", REQUESTS, 10**9, per="minute"),
            RateRule("rate:2", TOKENS, 10**12, per="minute"),
            RateRule("rate:3", CONCURRENT, 10**6),
        ),
        ceilings=(Ceiling(1, 9 * 10**15, "month"),),
    )
    caller = Caller(1, 1, "bench", "bench", terms=KeyTerms(rules=rules))
    call = Call(wire=CHAT, model="bench-fast", body={"messages": []}, raw=b"{}" * 200)
    targets = resolve(snapshot, call.model)
    asking = Asking(snapshot, Who(caller, str), call, targets)
    return asking, applicable(snapshot, caller, call.model, targets), Learned()


async def _both(redis_url: str, known: Sequence[Any]) -> dict[str, dict[str, float]]:
    from proxy.store.memory import MemoryStore  # noqa: PLC0415 - Django must be set up first
    from proxy.store.redis import RedisStore  # noqa: PLC0415

    found = {"memory": await measured(MemoryStore(max_bytes=1 << 20), known)}
    if redis_url:
        store = RedisStore(redis_url, owner="bench-0")
        try:
            found["redis"] = await measured(store, known)
        finally:
            await store.close()
    return found


if __name__ == "__main__":
    import django

    django.setup()
    import orjson

    sys.stdout.buffer.write(
        orjson.dumps(asyncio.run(_both(sys.argv[1] if len(sys.argv) > 1 else "", _asking())))
    )
