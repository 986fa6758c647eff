import pytest

from proxy.patterns import BadPattern, compile_regex


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("preview", "gpt-4o-preview", True),
        ("-preview$", "gpt-4o-preview-2", False),
        ("^gpt", "a-gpt", False),
        ("(?i)GPT", "gpt-4o", True),
        ("", "anything", True),
        ("é", "café", True),
        ("gpt-4o", "gpt-4O", False),
    ],
)
def test_it_searches_anywhere(pattern, text, found):
    assert bool(compile_regex(pattern).search(text)) is found


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2000}", "*", "(?=lookahead)", r"(a)\1", "\\"])
def test_it_refuses_with_re2s_own_words(pattern):
    with pytest.raises(BadPattern) as raised:
        compile_regex(pattern)
    assert str(raised.value)
    assert "b'" not in str(raised.value)


def test_it_takes_linear_time_for_what_ruins_a_backtracking_engine():
    assert not compile_regex("^(a+)+$").search("a" * 50_000 + "b")
