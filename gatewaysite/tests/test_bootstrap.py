"""The first start makes what a stranger needs; no later start brings back what was taken away."""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import CommandError, call_command

from config.models import current_version
from gatewaysite.bootstrap import Started, bootstrap
from gatewaysite.config_file import ConfigFileError, apply_text
from gatewaysite.environment import read_environment
from gatewaysite.management.commands.bootstrap import base_url, describe
from keys import secret as secrets
from keys.models import ApiKey, Tenant
from providers.models import Price, Provider
from tests.servers import MANAGE, Child, gateway_env, manage, postgres

User = get_user_model()


def start(directory: Path, **variables: str) -> Started:
    return bootstrap(read_environment(variables), directory=directory)


@pytest.mark.django_db
class TestFirstStart:
    def test_it_makes_an_administrator_who_can_sign_in(self, tmp_path):
        started = start(tmp_path)
        assert len(started.admin_password) >= 16
        user = authenticate(username="admin", password=started.admin_password)
        assert user is not None
        assert User.objects.get(is_superuser=True, is_staff=True).pk == user.pk

    def test_it_makes_the_demo_and_a_key_for_it(self, tmp_path):
        started = start(tmp_path)
        demo = Provider.objects.get()
        assert (demo.name, demo.dialect, demo.base_url, demo.credential) == ("demo", "openai", "demo://", "")
        key = ApiKey.objects.get()
        assert (key.name, key.tenant.name) == ("demo-key", "demo")
        assert key.digest == secrets.digest(started.demo_key).hex()

    def test_it_makes_a_provider_of_each_variable_and_stores_references(self, tmp_path):
        started = start(
            tmp_path,
            OPENAI_API_KEY="sk-1",
            ANTHROPIC_API_KEY="sk-2",
            GEMINI_API_KEY="sk-3",
            MISTRAL_API_KEY="sk-4",
            OLLAMA_BASE_URL="http://localhost:11434/",
            LLM_BASE_URL="http://localhost:8000/v1",
            LLM_API_KEY="sk-5",
        )
        assert started.providers == ["openai", "anthropic", "gemini", "mistral", "ollama", "llm"]
        rows = Provider.objects.exclude(name="demo").values_list("name", "dialect", "base_url", "credential")
        assert sorted(rows) == [
            ("anthropic", "anthropic", "https://api.anthropic.com", "${ANTHROPIC_API_KEY}"),
            ("gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta", "${GEMINI_API_KEY}"),
            ("llm", "openai", "http://localhost:8000/v1", "${LLM_API_KEY}"),
            ("mistral", "mistral", "https://api.mistral.ai/v1", "${MISTRAL_API_KEY}"),
            ("ollama", "ollama", "http://localhost:11434", ""),
            ("openai", "openai", "https://api.openai.com/v1", "${OPENAI_API_KEY}"),
        ]
        for row in Provider.objects.all():
            row.full_clean()

    def test_it_takes_either_name_of_googles_key(self, tmp_path):
        start(tmp_path, GOOGLE_API_KEY="sk", GEMINI_API_KEY="sk-too")
        assert Provider.objects.get(name="gemini").credential == "${GOOGLE_API_KEY}"

    def test_a_server_without_a_key_gets_none(self, tmp_path):
        start(tmp_path, LLM_BASE_URL="http://localhost:8000/v1")
        assert Provider.objects.get(name="llm").credential == ""

    def test_it_writes_the_built_in_prices(self, tmp_path):
        start(tmp_path, OPENAI_API_KEY="sk")
        assert Price.objects.filter(provider__name="openai", model="gpt-4o-mini", source="builtin").exists()

    def test_it_is_not_fooled_by_an_earlier_apply_config(self, tmp_path):
        apply_text("version: 1\ntenants: [{name: demo, timezone: Europe/Berlin}]")
        started = start(tmp_path)
        assert started.admin_password
        assert started.demo_key
        assert Tenant.objects.get().timezone == "Europe/Berlin"

    def test_it_takes_an_administrator_that_exists_for_enough(self, tmp_path):
        User.objects.create_superuser("boss", "", "x")
        assert start(tmp_path).admin_password == ""
        assert User.objects.count() == 1

    def test_it_makes_nobody_an_administrator_who_was_none(self, tmp_path):
        User.objects.create_user("admin", "", "x")
        started = start(tmp_path)
        assert started.admin_password == ""
        assert started.warnings == [
            "a user named admin exists and is no administrator: manage.py createsuperuser"
        ]
        assert not User.objects.filter(is_superuser=True).exists()

    def test_it_leaves_a_provider_alone_that_has_a_vendors_name(self, tmp_path):
        apply_text("version: 1\nproviders: [{name: openai, dialect: openai, base_url: 'http://proxy'}]")
        assert start(tmp_path, OPENAI_API_KEY="sk").providers == []
        assert Provider.objects.get(name="openai").base_url == "http://proxy"


@pytest.mark.django_db
class TestLaterStarts:
    def test_they_change_nothing(self, tmp_path):
        start(tmp_path, OPENAI_API_KEY="sk")
        version = current_version()
        assert start(tmp_path, OPENAI_API_KEY="sk") == Started()
        assert current_version() == version

    def test_they_bring_back_nothing_that_was_deleted(self, tmp_path):
        start(tmp_path, OPENAI_API_KEY="sk")
        Provider.objects.all().delete()
        Tenant.objects.all().delete()
        User.objects.all().delete()
        assert start(tmp_path, OPENAI_API_KEY="sk") == Started()
        assert not Provider.objects.exists()
        assert not ApiKey.objects.exists()
        assert not User.objects.exists()

    def test_they_add_a_vendor_whose_variable_is_new(self, tmp_path):
        start(tmp_path)
        assert start(tmp_path, MISTRAL_API_KEY="sk").providers == ["mistral"]

    def test_they_warn_when_a_url_differs_from_its_row(self, tmp_path):
        start(tmp_path, OLLAMA_BASE_URL="http://a:1")
        assert start(tmp_path, OLLAMA_BASE_URL="http://a:1/").warnings == []
        (warning,) = start(tmp_path, OLLAMA_BASE_URL="http://b:1").warnings
        assert warning.startswith(
            "OLLAMA_BASE_URL is http://b:1, but provider ollama has http://a:1: its row"
        )

    def test_they_correct_the_built_in_prices(self, tmp_path):
        start(tmp_path, OPENAI_API_KEY="sk")
        Price.objects.filter(model="gpt-4o-mini").update(input_nanousd_per_mtok=1)
        start(tmp_path, OPENAI_API_KEY="sk")
        assert Price.objects.get(model="gpt-4o-mini").input_nanousd_per_mtok == 150_000_000


@pytest.mark.django_db
class TestConfigFile:
    def test_it_is_applied_over_the_providers_of_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "sk")
        (tmp_path / "config.yaml").write_text(
            "version: 1\nproviders: [{name: openai, max_connections: 9}]\n"
            "tenants: [{name: t}]\nkeys: [{name: k, tenant: t}]"
        )
        started = start(tmp_path, OPENAI_API_KEY="sk")
        assert Provider.objects.get(name="openai").max_connections == 9
        assert list(started.generated_keys) == ["k"]
        assert start(tmp_path, OPENAI_API_KEY="sk") == Started()

    def test_nothing_is_done_when_it_has_problems(self, tmp_path):
        (tmp_path / "config.yaml").write_text("version: 1\nproviders: [{name: x}]")
        with pytest.raises(ConfigFileError):
            start(tmp_path)
        assert not User.objects.exists()
        assert not Provider.objects.exists()
        (tmp_path / "config.yaml").unlink()
        assert start(tmp_path).admin_password


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"HOST": "0.0.0.0", "PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"HOST": "::"}, "http://127.0.0.1:8080"),
        ({"HOST": "::1"}, "http://[::1]:8080"),
        ({"HOST": "gateway.lan"}, "http://gateway.lan:8080"),
        ({"APP_BASE_URL": "https://llm.example.com/"}, "https://llm.example.com"),
    ],
)
def test_it_knows_where_people_reach_the_gateway(variables, url):
    assert base_url(read_environment(variables)) == url


def test_it_prints_a_line_that_a_shell_runs():
    lines = describe(Started(admin_password="pass-word", demo_key="sk-gw-demo"), "http://127.0.0.1:8080")
    assert lines[0] == "Admin:    http://127.0.0.1:8080/admin/"
    assert "pass-word" in lines[1]
    words = shlex.split(lines[-1])
    assert words[:2] == ["curl", "http://127.0.0.1:8080/v1/chat/completions"]
    assert "Authorization: Bearer sk-gw-demo" in words
    assert words[-1].startswith('{"model": "demo/echo"')


def test_later_it_prints_the_urls_alone():
    assert describe(Started(), "http://h:1") == [
        "Admin:    http://h:1/admin/",
        "API:      http://h:1/v1   (base_url of any OpenAI SDK)",
    ]


@pytest.mark.django_db
class TestCommand:
    def run(self) -> str:
        out = StringIO()
        call_command("bootstrap", stdout=out)
        return out.getvalue()

    def test_it_tells_secrets_once_and_to_standard_output_alone(self, tmp_path, monkeypatch, caplog, capsys):
        monkeypatch.chdir(tmp_path)
        first, second = self.run(), self.run()
        secret = next(word for word in first.split() if word.startswith("sk-gw-"))
        assert first.count("shown only now") == 2
        assert "/admin/" in second
        assert "shown only now" not in second
        assert secret not in caplog.text
        assert secret not in "".join(capsys.readouterr())

    def test_it_tells_what_is_wrong_with_the_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "config.yaml").write_text("version: 1\nproviders: [{name: x}]")
        with pytest.raises(CommandError) as told:
            self.run()
        assert str(told.value).splitlines() == [
            "config.yaml has problems, nothing was done:",
            "  providers[0].dialect: required",
            "  providers[0].base_url: required",
        ]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        url = stack.enter_context(postgres()).create("boot") if request.param == "postgres" else ""
        yield gateway_env(tmp_path / "data", DATABASE_URL=url, OPENAI_API_KEY="sk")


def test_processes_that_start_at_once_bootstrap_once_and_any_export_round_trips(env, tmp_path):
    unready = Child("early", [*MANAGE, "bootstrap"], env=env)
    unready.popen.wait(60)
    assert "run `manage.py migrate` first" in unready.output
    unready.discard()
    manage("migrate", "-v0", env=env)
    started = [Child(f"start {n}", [*MANAGE, "bootstrap"], env=env, cwd=tmp_path) for n in range(3)]
    assert [child.popen.wait(60) for child in started] == [0, 0, 0], [child.output for child in started]
    outputs = "".join(child.output for child in started)
    for child in started:
        child.discard()
    assert outputs.count("user admin, password") == 1
    assert outputs.count("Demo key: ") == 1
    assert outputs.count("Providers from the environment: openai") == 1
    exported = manage("export_config", "--with-secrets", env=env)
    (tmp_path / "export.yaml").write_text(exported)
    assert "Nothing to change" in manage("apply_config", str(tmp_path / "export.yaml"), env=env)
    assert manage("export_config", "--with-secrets", env=env) == exported
