import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from config.models import ConfigChange, current_version
from config.vault import SecretUnreadable
from providers.faults import OFF, Faults
from providers.models import Price, Provider, ProviderModel

pytestmark = pytest.mark.django_db
URL = "https://api.openai.com/v1"


def make(**fields):
    return Provider(**{"name": "openai", "dialect": "openai", "base_url": URL, **fields})


@pytest.fixture
def provider():
    row = make()
    row.save()
    return row


def refused_field(row):
    with pytest.raises(ValidationError) as raised:
        row.full_clean()
    return set(raised.value.message_dict)


def changed_parts(after):
    return set(ConfigChange.objects.filter(version__gt=after).values_list("part", flat=True))


@pytest.mark.parametrize("url", [URL, "http://localhost:11434", "demo://"])
def test_it_takes_a_base_url(url):
    make(base_url=url).full_clean()


@pytest.mark.parametrize("url", ["", "api.openai.com", "ftp://x", "file:///etc/passwd", "HTTPS//x"])
def test_it_refuses_what_is_no_base_url(url):
    assert refused_field(make(base_url=url)) == {"base_url"}


@pytest.mark.parametrize("name", ["openai", "my-vllm_2.eu", "0"])
def test_it_takes_a_name_that_can_be_a_namespace(name):
    make(name=name).full_clean()


@pytest.mark.parametrize("name", ["", "OpenAI", "a/b", "a b", "-a", "a\n"])
def test_it_refuses_a_name_that_cannot(name):
    assert refused_field(make(name=name)) == {"name"}


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{path}",
        "{path}?version=3",
        "/openai/deployments/{model}{path}?api-version=2024-10-21",
        "/{model}/v1{path}",
    ],
)
def test_it_takes_a_path_template(template):
    make(path_template=template).full_clean()


@pytest.mark.parametrize(
    "template",
    [
        "/fixed",
        "{model}{path}",
        "openai{path}",
        "@other.example{path}",
        "/{deployment}{path}",
        "/{}{path}",
        "/a b{path}",
        "/a{path}#b",
        "/a{path}/{",
        "/a{path}}",
        "/a\n{path}",
        "/" + "x" * 300 + "{path}",
    ],
)
def test_it_refuses_a_path_template_that_leads_nowhere(template):
    assert refused_field(make(path_template=template)) == {"path_template"}


def test_it_takes_and_refuses_quirks():
    make(quirks={}).full_clean()
    make(quirks={"developer_role": "system", "completions": False}).full_clean()
    for quirks in (["x"], "x", {"unknown": 1}, {"completions": "no"}):
        assert refused_field(make(quirks=quirks)) == {"quirks"}


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_it_refuses_headers_that_frame_the_request(name):
    assert refused_field(make(extra_headers={name: "1"})) == {"extra_headers"}


@pytest.mark.parametrize("headers", [{"a": 1}, ["a"], "a", {"a": None}])
def test_it_refuses_headers_that_are_no_strings(headers):
    assert refused_field(make(extra_headers=headers)) == {"extra_headers"}


@pytest.mark.parametrize(
    "field",
    ["connect_timeout_s", "first_content_timeout_s", "idle_timeout_s", "total_timeout_s", "max_connections"],
)
def test_it_refuses_a_timeout_of_nothing(field):
    assert refused_field(make(**{field: 0})) == {field}


def test_it_keeps_a_credential_sealed():
    row = make()
    row.set_credential("sk-vendor-secret")
    assert "vendor-secret" not in row.credential
    assert row.open_credential() == "sk-vendor-secret"
    assert row.credential_kind == "stored, encrypted"


def test_it_keeps_a_reference_as_it_is(monkeypatch):
    monkeypatch.setenv("VENDOR_KEY", "sk-from-environment")
    row = make()
    row.set_credential("${VENDOR_KEY}")
    assert row.credential == "${VENDOR_KEY}"
    assert row.open_credential() == "sk-from-environment"
    assert row.credential_kind == "from ${VENDOR_KEY}"
    assert make().credential_kind == "none"


def test_it_says_when_no_key_opens_a_credential(settings):
    row = make()
    row.set_credential("sk-vendor-secret")
    settings.SECRET_KEYS = ("another key",)
    with pytest.raises(SecretUnreadable):
        row.open_credential()


def test_it_announces_a_change_but_not_its_bookkeeping(provider):
    before = current_version()
    Provider.objects.update(models_refreshed_at=timezone.now(), models_error="")
    assert current_version() == before
    Provider.objects.update(enabled=False)
    assert changed_parts(before) == {"providers"}


def test_it_lists_a_model_once_per_provider(provider):
    row = ProviderModel.objects.create(provider=provider, name="gpt-4o")
    assert str(row) == "openai/gpt-4o"
    with pytest.raises(IntegrityError), transaction.atomic():
        ProviderModel.objects.create(provider=provider, name="gpt-4o")


def test_it_prices_a_model_once_per_moment_and_source(provider):
    moment = timezone.datetime(2026, 11, 21, tzinfo=timezone.get_default_timezone())
    rates = {"input_nanousd_per_mtok": 1, "output_nanousd_per_mtok": 2, "effective_from": moment}
    before = current_version()
    row = Price.objects.create(provider=provider, model="gpt-4o", **rates)
    assert str(row) == "openai/gpt-4o from 2026-11-21"
    Price.objects.create(provider=provider, model="gpt-4o", source="builtin", **rates)
    assert changed_parts(before) == {"prices"}
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(provider=provider, model="gpt-4o", **rates)


def test_it_refuses_a_negative_rate(provider):
    rates = dict.fromkeys(
        ("input_nanousd_per_mtok", "output_nanousd_per_mtok", "cached_input_nanousd_per_mtok"), -1
    )
    assert refused_field(Price(provider=provider, model="gpt-4o", **rates)) == set(rates)


# ---------------------------------------------------------------- faults

SWITCHED_ON = {
    "fault_percent": 50.0,
    "fault_status": 503,
    "fault_retry_after_s": 5,
    "fault_latency_ms": 10,
    "fault_ttft_ms": 20,
    "fault_cut_after": 0,
    "fault_stall_after": 0,
}


def test_it_has_no_faults_unless_they_are_given():
    row = make(base_url="demo://")
    row.full_clean()
    assert {name: getattr(row, name) for name in OFF} == OFF
    assert not row.faults.on


@pytest.mark.parametrize(("name", "value"), SWITCHED_ON.items())
def test_it_fails_on_purpose_at_the_demo_alone(name, value):
    row = make(base_url="demo://", **{name: value})
    row.full_clean()
    assert row.faults == Faults(**{name.removeprefix("fault_"): value})
    for url in (URL, "demo://other"):
        assert refused_field(make(base_url=url, **{name: value})) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fault_percent", -0.1),
        ("fault_percent", 100.1),
        ("fault_status", 399),
        ("fault_status", 600),
        ("fault_retry_after_s", -1),
        ("fault_retry_after_s", 86_401),
        ("fault_latency_ms", 3_600_001),
        ("fault_ttft_ms", -1),
        ("fault_cut_after", -1),
        ("fault_stall_after", 1_000_001),
    ],
)
def test_it_refuses_faults_that_are_none(name, value):
    assert refused_field(make(base_url="demo://", **{name: value})) == {name}


def test_it_refuses_two_ends_of_one_answer():
    row = make(base_url="demo://", fault_cut_after=1, fault_stall_after=2)
    assert refused_field(row) == {"fault_stall_after"}


def test_it_switches_its_faults_off():
    row = make(base_url="demo://", fault_status=500, fault_percent=20.0)
    assert sorted(row.clear_faults()) == ["fault_percent", "fault_status"]
    assert not row.faults.on
    assert row.clear_faults() == []
