"""docs/money.md's own commands and figures."""

import re
import shlex
from io import StringIO

import pytest
from django.core.management import call_command

from analytics.booking import book
from analytics.tests.spool_files import done, text
from providers.models import Provider
from tests.servers import CHECKOUT

pytestmark = pytest.mark.django_db


def block(language):
    found = re.findall(rf"```{language}\n(.*?)```", (CHECKOUT / "docs/money.md").read_text(), re.DOTALL)
    assert found
    return found


def run(line):
    _, _, command, *arguments = shlex.split(line)
    out = StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def costs(tmp_path, monkeypatch):
    Provider.objects.create(name="openai", dialect="openai", base_url="http://openai.test")
    assert book("s", 1, done=text(done("a")), interrupted="")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text(block("csv")[0])


def test_the_example_of_a_bill_prints_what_the_document_says(costs):
    assert run(block("sh")[1].strip()).strip() == block("text")[0].strip()


def test_the_examples_of_re_rating_run(costs):
    preview, applied = block("sh")[0].strip().splitlines()
    assert "Nothing has been changed." in run(preview)
    assert "Applied: 0 rows" in run(applied)
