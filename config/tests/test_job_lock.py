"""Of processes on one PostgreSQL, one at a time runs a job, and none has to wait for one that has died."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import child, gateway_env, manage, postgres

pytestmark = pytest.mark.postgres

# Runs until it is told to go; a second argument has it try until it is its turn.
RUN = """
import sys, time
from pathlib import Path
import django
django.setup()
from config.job_lock import alone
from config.jobs import job
from config.models import JobRun

@job("test-job", title="Test", does="Tests.")
def work():
    # Another session of the same process gets it no more than another process.
    with alone("test-job") as again, alone("other-job") as other:
        print("inside", again, other, flush=True)
    while not Path(sys.argv[1]).exists():
        time.sleep(0.02)
    return "once"

result = work()
while result is None and len(sys.argv) > 2:
    result = work()
row = JobRun.objects.get(pk="test-job")
print("ran", result, row.state, row.runs, flush=True)
"""


def test_one_of_two_processes_runs_it_and_a_killed_one_is_no_hindrance(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with ExitStack() as stack:
        env = gateway_env(tmp_path, DATABASE_URL=stack.enter_context(postgres()).create("jobs"))
        manage("migrate", "config", "-v0", env=env)

        def runner(name: str, *more: str):
            command = [sys.executable, "-c", RUN, str(go), *more]
            return stack.enter_context(child(name, command, env=env))

        first = runner("first")
        first.wait_for("inside False True")
        second = runner("second")
        second.wait_for("ran None running 0")
        third = runner("third", "until it is its turn")
        first.popen.kill()
        third.wait_for("inside False True")
        go.touch()
        third.wait_for("ran once done 1")
