import pytest

from keys.caller import ANONYMOUS, Caller, matches


def caller(**fields):
    return Caller(**{"key_id": 1, "tenant_id": 2, "name": "ci", "prefix": "sk-gw-abcdef", **fields})


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o*", "gpt-4o", True),
        ("gpt-4o*", "gpt-4", False),
        ("anthropic/*", "anthropic/claude-haiku-4-5", True),
        ("anthropic/*", "claude-haiku-4-5", False),
        ("*", "anything", True),
        ("*", "", True),
        ("g*t", "gpt", False),
        ("GPT-4o", "gpt-4o", False),
        ("", "gpt-4o", False),
    ],
)
def test_it_matches_exact_names_and_prefixes(pattern, name, fits):
    assert matches(pattern, name) is fits


def test_it_may_use_everything_unless_told_otherwise():
    assert caller().may_use("any/model")
    assert ANONYMOUS.may_use("any/model")


def test_it_may_use_a_model_by_any_of_its_names():
    limited = caller(allowed=("gpt-4o*", "anthropic/*"))
    assert limited.may_use("fast", "openai/gpt-4o", "gpt-4o")
    assert limited.may_use("anthropic/claude-haiku-4-5")
    assert not limited.may_use("gemini-2.5-pro", "gemini/gemini-2.5-pro")
    assert not limited.may_use()


def test_it_expires_at_its_moment():
    short = caller(expires_at=100.0)
    assert not short.expired(99.999)
    assert short.expired(100.0)
    assert not caller().expired(1e12)


def test_it_never_changes():
    with pytest.raises(AttributeError):
        caller().enabled = False  # type: ignore[misc]  # that it is refused is the test
