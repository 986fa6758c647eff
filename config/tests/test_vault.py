"""Secrets at rest: sealed, opened, rotated; key files that no two processes make twice."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.vault import SecretUnreadable, Vault, keys_from_file, reference, sealed

CHECKOUT = Path(__file__).resolve().parents[2]


def test_it_opens_what_it_sealed_and_shows_nothing_of_it():
    vault = Vault(["key"])
    token = vault.seal("sk-secret")
    assert sealed(token)
    assert "sk-secret" not in token
    assert vault.open(token) == "sk-secret"


def test_it_stores_references_and_nothing_as_they_are():
    vault = Vault(["key"])
    assert vault.seal("${NAME}") == "${NAME}"
    assert vault.seal("") == ""
    assert vault.open("") == ""


def test_it_opens_a_reference_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_NAME", "value")
    assert Vault(["key"]).open("${SOME_NAME}") == "value"
    assert Vault(["key"]).open("${SOME_NAME}", {"SOME_NAME": "other"}) == "other"
    assert Vault(["key"]).open("${SOME_NAME}", {}) == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [("${A_1}", "A_1"), (" ${A} ", "A"), ("$A", ""), ("${A} b", ""), ("${1A}", ""), ("${}", ""), ("", "")],
)
def test_it_knows_a_reference(text, name):
    assert reference(text) == name


def test_it_opens_under_an_old_key_and_rotates_to_the_new_one():
    old = Vault(["old"]).seal("secret")
    both = Vault(["new", "old"])
    assert both.open(old) == "secret"
    rotated = both.rotate(old)
    assert Vault(["new"]).open(rotated) == "secret"
    assert both.rotate("${NAME}") == "${NAME}"


@pytest.mark.parametrize("stored", ["enc:", "enc:nonsense", "enc:gAAAAé", Vault(["other"]).seal("x")])
def test_it_says_that_no_key_opens_a_token(stored):
    with pytest.raises(SecretUnreadable, match="no key in GATEWAY_SECRET_KEYS opens this credential"):
        Vault(["key"]).open(stored)


def test_it_seals_files():
    vault = Vault(["key"])
    assert vault.open_bytes(vault.seal_bytes(b"content")) == b"content"
    with pytest.raises(SecretUnreadable):
        Vault(["other"]).open_bytes(vault.seal_bytes(b"content"))


def test_it_makes_a_key_file_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "secret.key"
    keys = keys_from_file(path)
    assert len(keys) == 1
    assert len(keys[0]) >= 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys_from_file(path) == keys
    assert [file.name for file in path.parent.iterdir()] == ["secret.key"]


def test_it_reads_several_keys(tmp_path):
    path = tmp_path / "secret.key"
    path.write_text("new\nold\n")
    assert keys_from_file(path) == ("new", "old")


def test_it_refuses_an_empty_key_file(tmp_path):
    path = tmp_path / "secret.key"
    path.touch()
    with pytest.raises(ImproperlyConfigured, match="holds no key"):
        keys_from_file(path)


def test_it_makes_a_key_file_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "secret.key"
    assert len(keys_from_file(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_processes_that_start_at_once_get_the_same_key(tmp_path):
    script = (
        "import sys; from pathlib import Path; from config.vault import keys_from_file;"
        "print(*keys_from_file(Path(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "secret.key")], cwd=CHECKOUT, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    keys = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(keys) == 1
    assert b"" not in keys
