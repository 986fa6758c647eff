"""apply_config and export_config as an operator runs them."""

import io
import stat
import sys

import pytest
from django.core.management import CommandError, call_command

from gatewaysite.tests.config_files import DESIGN_EXAMPLE
from keys.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def design(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(DESIGN_EXAMPLE)
    return str(path)


def test_it_applies_a_file_and_tells_what_it_did(design):
    out, err = run("apply_config", design)
    assert "provider openai: created" in out
    assert out.endswith("15 changes made.\n")
    assert "OPENAI_API_KEY is not set: provider openai stays disabled until it is" in err
    assert run("apply_config", design)[0] == "Nothing to change: the rows are what the file says.\n"


def test_it_shows_a_generated_secret_once(tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text("version: 1\ntenants: [{name: t}]\nkeys: [{name: k, tenant: t}]")
    assert "sk-gw-" not in run("apply_config", str(path), "--dry-run")[0]
    assert "The secret of key k, shown only now: sk-gw-" in run("apply_config", str(path))[0]
    assert "sk-gw-" not in run("apply_config", str(path))[0]
    assert ApiKey.objects.count() == 1


def test_a_dry_run_says_so(design):
    out, _ = run("apply_config", design, "--dry-run")
    assert out.endswith("15 changes, none made: this was a dry run.\n")
    assert not Tenant.objects.exists()


def test_a_dry_run_shows_field_by_field_what_would_differ_and_no_secret(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "version: 1\n"
        "providers: [{name: p, dialect: openai, base_url: https://p.test/v1, api_key: sk-vendor-1}]\n"
        "tenants: [{name: t, budgets: [{amount_usd: 5, window: day}]}, {name: other}]\n"
        "keys: [{name: k, tenant: t, secret: a-secret-of-our-own-1}]\n"
    )
    out, _ = run("apply_config", str(path), "--dry-run")
    assert "+ provider p\n    name: p\n" in out
    assert "    credential: (hidden)\n" in out
    assert "+ key k\n" in out
    assert not Tenant.objects.exists()
    run("apply_config", str(path))
    path.write_text(
        "version: 1\n"
        "providers: [{name: p, base_url: https://q.test/v1, api_key: sk-vendor-2}]\n"
        "tenants: [{name: t, timezone: Europe/Berlin, budgets: [{amount_usd: '5.000000001', window: day}]}]\n"
        "keys: [{name: k, rate_limits: []}]\n"
    )
    out, _ = run("apply_config", str(path), "--dry-run")
    assert out.splitlines() == [
        "~ provider p",
        "    base_url: https://p.test/v1 -> https://q.test/v1",
        "    credential: (hidden) -> (hidden, differs)",
        "~ tenant t",
        "    timezone: UTC -> Europe/Berlin",
        "~ tenant t: budget $5.000000001 per day",
        "    amount_nanousd: $5 -> $5.000000001",
        "= key k",
        "Left alone, as the file does not mention them: 1 tenants.",
        "3 changes, none made: this was a dry run.",
    ]
    path.write_text("version: 1\ntenants: [{name: t, budgets: []}]")
    assert "- tenant t: budget $5 per day\n" in run("apply_config", str(path), "--dry-run")[0]
    assert "vendor" not in out


def test_it_lists_every_problem(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nkeys: [{name: k, budgets: [{amount_usd: 1, window: year}]}]")
    with pytest.raises(CommandError) as told:
        run("apply_config", str(path))
    assert told.value.returncode == 1
    assert str(told.value).splitlines() == [
        f"{path} has 2 problems, nothing was applied:",
        "  keys[0].budgets[0].window: must be one of day, week, month, total",
        "  keys[0].tenant: required",
    ]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"\xff\xfe\x00", "is not UTF-8")]
)
def test_it_says_when_a_file_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=message):
        run("apply_config", str(path))


def test_it_reads_standard_input_and_a_byte_order_mark(monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffversion: 1\ntenants: [{name: ü}]".encode()))
    )
    assert run("apply_config", "-")[0] == "tenant ü: created\n1 change made.\n"


def test_it_exports_to_standard_output_or_to_a_file_of_the_owner(design, tmp_path):
    run("apply_config", design)
    path = tmp_path / "export.yaml"
    out, _ = run("export_config")
    assert run("export_config", str(path)) == ("", f"Written to {path}.\n")
    assert path.read_text() == out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"config.yaml", "export.yaml"}


def test_it_says_when_a_file_cannot_be_written(tmp_path):
    with pytest.raises(CommandError, match="cannot be written: No such file"):
        run("export_config", str(tmp_path / "missing" / "export.yaml"))
