"""Several who apply at once, beside late answers, on a real PostgreSQL."""

import subprocess
import sys
import textwrap

import pytest

from tests.servers import CHECKOUT, gateway_env, manage, postgres

pytestmark = pytest.mark.postgres

# Four threads apply one preview, two others the same of another one, while late answers take estimates back.
SCRIPT = """
    import threading
    from datetime import UTC, datetime, timedelta
    import django
    django.setup()
    from django.db import connection
    from analytics import rerating
    from analytics.booking import book
    from analytics.models import ReRating
    from analytics.tests.spool_files import done, opened, text
    from keys.models import Budget
    from providers.models import Price, Provider

    COUNT = 400
    rerating.BATCH = 20
    ids = [f"c{number}" for number in range(COUNT)]
    Budget.objects.create(amount_nanousd=1)
    provider = Provider.objects.create(name="openai", dialect="openai", base_url="http://x")
    price = Price.objects.create(
        provider=provider, model="gpt-4o", input_nanousd_per_mtok=10**9, output_nanousd_per_mtok=10**9,
        effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    )
    book("s1", 1, done="", interrupted=text(*map(opened, ids)))
    book("s2", 1, done=text(*(done(f"d{number}") for number in range(COUNT))), interrupted="")
    price.output_nanousd_per_mtok = 3 * 10**9
    price.save()
    since = datetime(2026, 9, 1, tzinfo=UTC)
    runs = [rerating.preview(ReRating(since=since, until=since + timedelta(days=30))) for _ in range(2)]
    failures = []

    def together(work):
        def run():
            try:
                barrier.wait()
                work()
            except BaseException as failure:
                failures.append(repr(failure))
            finally:
                connection.close()
        return threading.Thread(target=run)

    def late():
        for place in range(0, COUNT, 20):
            lines = text(*(done(each) for each in ids[place : place + 20]))
            book(f"late{place}", 20, done=lines, interrupted="")

    work = [lambda: rerating.apply(ReRating.objects.get(pk=runs[0].pk), by="a")] * 4
    work += [lambda: rerating.apply(ReRating.objects.get(pk=runs[1].pk), by="b")] * 2
    work += [late]
    barrier = threading.Barrier(len(work))
    threads = [together(each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
"""


def test_nothing_is_corrected_twice_whoever_applies_beside_whom(tmp_path):
    with postgres() as server:
        env = gateway_env(tmp_path, DATABASE_URL=server.create("gateway"), PYTHONPATH=str(CHECKOUT))
        manage("migrate", "--verbosity", "0", env=env)
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT)], env=env, check=True, timeout=100, cwd=CHECKOUT
        )

        def ask(statement):
            return server.sql(statement, database="gateway")

        # 100 tokens in and 20 out: what was booked for 42,000 costs 160,000 now.
        finished = ask(
            "SELECT DISTINCT sum(cost_nanousd) FROM keys_ledgerentry WHERE completion_id LIKE 'd%' "
            "GROUP BY completion_id"
        )
        assert finished == [(160_000,)]
        # An estimate is taken back with its correction, if it was corrected first; the answer is left.
        late = ask(
            "SELECT DISTINCT sum(cost_nanousd) FROM keys_ledgerentry WHERE completion_id LIKE 'c%' "
            "GROUP BY completion_id"
        )
        assert late == [(42_000,)]
        kinds = dict(ask("SELECT kind, count(*) FROM keys_ledgerentry GROUP BY kind"))
        assert (kinds["spent"], kinds["interrupted"], kinds["retracted"]) == (800, 400, 400)
        sums = ask(
            "SELECT sum(cost_nanousd), sum(cost_nanousd) FILTER (WHERE kind IN ('retracted', 'adjusted')) "
            "FROM keys_ledgerentry"
        )
        assert ask("SELECT spent_nanousd, corrected_nanousd FROM keys_budgetwindow") == sums
        applied = ask("SELECT state, applied_nanousd FROM analytics_rerating")
        assert {state for state, _ in applied} == {"applied"}
        adjusted = ask("SELECT sum(cost_nanousd) FROM keys_ledgerentry WHERE kind = 'adjusted'")
        assert sum(amount for _, amount in applied) == adjusted[0][0]
