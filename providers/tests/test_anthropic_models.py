import pytest

from providers.dialects.anthropic.models import Traits, traits_of


@pytest.mark.parametrize(
    ("model", "max_tokens"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-20241022", 8192),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-4-opus-20250514", 32_000),
        ("claude-opus-4@20250514", 32_000),
        ("anthropic.claude-opus-4-1-20250805-v1:0", 32_000),
        ("claude-sonnet-4-0", 64_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("anthropic/claude-opus-4.6", 128_000),
        ("claude-haiku-5-5", 64_000),
        ("claude-mythos-preview", 128_000),
        ("some-other-model", 8192),
    ],
)
def test_it_knows_how_much_a_model_writes(model, max_tokens):
    assert traits_of(model).max_tokens == max_tokens


@pytest.mark.parametrize(
    ("model", "how"),
    [
        ("claude-3-5-haiku-20241022", "budgets"),
        ("claude-sonnet-4-20250514", "thinks budgets"),
        ("claude-opus-4-5", "thinks budgets"),
        ("claude-sonnet-4-6", "thinks budgets adaptive"),
        ("claude-opus-4-8", "thinks adaptive xhigh"),
        ("claude-sonnet-5", "thinks adaptive xhigh by_default"),
        ("claude-fable-5-1", "thinks adaptive xhigh by_default always"),
        ("claude-mythos-preview", "thinks adaptive xhigh by_default always"),
    ],
)
def test_it_knows_how_a_model_thinks(model, how):
    traits = traits_of(model)
    names = ("thinks", "budgets", "adaptive", "xhigh", "by_default", "always")
    assert {name for name in names if getattr(traits, name)} == set(how.split())


@pytest.mark.parametrize(
    ("model", "sampling", "schemas"),
    [
        ("claude-opus-4-0", True, False),
        ("claude-opus-4-1", True, True),
        ("claude-sonnet-4-5", True, True),
        ("claude-opus-4-7", False, True),
        ("claude-haiku-5-5", False, True),
    ],
)
def test_it_knows_what_a_model_may_be_told(model, sampling, schemas):
    traits = traits_of(model)
    assert (traits.sampling, traits.schemas) == (sampling, schemas)


def test_it_expects_little_of_a_name_without_a_version():
    assert traits_of("kimi-k2") == traits_of("claude-latest") == Traits()
