"""The page on compatible servers: each entry can be applied as it stands and makes a configuration."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from gatewaysite.config_file import apply_text
from providers.models import Provider
from providers.quirks import read_quirks
from providers.upstream import Quirks
from proxy import compiling

pytestmark = pytest.mark.django_db

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "compatible-servers.md").read_text()
ENTRIES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMES = [re.findall(r"- name: (\S+)", entry)[0] for entry in ENTRIES]


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_it_applies_an_entry(entry, monkeypatch):
    variables = re.findall(r"\$\{(\w+)\}", entry)
    for name in variables:
        monkeypatch.setenv(name, "a-key")
    changes = apply_text(entry)
    assert changes.warnings == []
    provider = Provider.objects.get()
    provider.full_clean()
    read_quirks(provider.quirks)
    assert compiling.check() == ""
    assert apply_text(entry).done == []


def test_it_applies_them_all_together(monkeypatch):
    for entry in ENTRIES:
        for name in re.findall(r"\$\{(\w+)\}", entry):
            monkeypatch.setenv(name, "a-key")
        apply_text(entry)
    assert Provider.objects.count() == len(ENTRIES) == len(set(NAMES)) == 11
    assert compiling.check() == ""


def test_it_gives_each_server_a_section_with_its_makers_word():
    sections = PAGE.split("\n## ")[2:]
    assert len(sections) == 10
    for section in sections:
        assert "```yaml" in section
        assert re.search(r"\]\(https://", section), section[:40]
        heading = section.splitlines()[0]
        anchor = re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        assert f"(#{anchor})" in PAGE


def test_it_tells_of_every_field_of_quirks():
    for field in fields(Quirks):
        assert f"`quirks.{field.name}`" in PAGE
