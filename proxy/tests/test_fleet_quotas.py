import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.fleet.quotas import _ALL, GUESS_S, MAX_WAIT_S, Quota
from proxy.fleet.resets import MAX_RESET_S, minute_ends_in_s, reset_in_s

NOW = 5000.0
DATE = "Thu, 18 Dec 2025 23:27:26 GMT"


def openai(**fields):
    """Return OpenAI's headers: requests=(limit, remaining, reset), tokens=(...)."""
    words = ("limit", "remaining", "reset")
    return {
        f"x-ratelimit-{word}-{name}": str(value)
        for name, values in fields.items()
        for word, value in zip(words, values, strict=True)
    }


def anthropic(date=DATE, **fields):
    told = {"date": date}
    for name, values in fields.items():
        for word, value in zip(("limit", "remaining", "reset"), values, strict=True):
            told[f"anthropic-ratelimit-{name.replace('_', '-')}-{word}"] = str(value)
    return told


def told(headers, now=NOW):
    quota = Quota()
    quota.learn(headers, now)
    return quota


def wait_s(headers, tokens=10):
    return told(headers).ready_at(NOW, tokens) - NOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("120ms", 0.12),
        ("0s", 0),
        ("1d2h", 93600 - 7200),  # never beyond a day
        ("2h3m4.5s", 7384.5),
        ("2m59.56s", 179.56),
        ("142.857142ms", 0.142857142),
        ("19", 19),
        ("11.38", 11.38),
        ("1766100506", 60),  # since 1970
        ("1766100506000", 60),
        ("2025-12-18T23:28:26Z", 60),
        ("2025-12-19T00:28:26+01:00", 60),
        ("2025-12-18T23:27:20Z", 0),
        ("2031-12-18T23:27:20Z", MAX_RESET_S),
        ("99999999d", MAX_RESET_S),
    ],
)
def test_it_reads_a_reset(text, seconds):
    assert reset_in_s(text, DATE) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5s",
        "1x",
        "5s later",
        "2025-12-18T23:28:26",
        "NaN",
        "inf",
        "1e9",
        "\u0661s",
        "²",
        "9" * 400,
        "s",
    ],
)
def test_it_reads_no_reset_from_anything_else(text):
    assert reset_in_s(text, DATE) is None


@pytest.mark.parametrize("date", ["", "yesterday", "2025-12-18", "\x00"])
def test_a_moment_says_nothing_without_the_answers_date(date):
    assert reset_in_s("2025-12-18T23:28:26Z", date) is None
    assert minute_ends_in_s(date) is None


def test_it_knows_when_the_vendors_minute_ends():
    assert minute_ends_in_s(DATE) == 34


def test_nothing_known_waits_for_nothing():
    assert Quota().ready_at(NOW, 10**9) == NOW
    assert wait_s({"content-type": "application/json", "date": DATE}) == 0


# As OpenAI sends them, limits by the minute and by the day.
@pytest.mark.parametrize(
    ("headers", "tokens", "seconds"),
    [
        (openai(requests=(10000, 9999, "6ms"), tokens=(200000, 199945, "16ms")), 1000, 0),
        (openai(requests=(10000, 0, "1m0s")), 10, 0.006),
        (openai(requests=(200, 0, "24h0m0s")), 10, 432),
        (openai(tokens=(200000, 1000, "59.7s")), 31000, 9),
        (openai(requests=(500, 0, "1m0s"), tokens=(30000, 100, "59.8s")), 600, 1),
        # More than the limit holds never fits: it goes when the limit is full, and the vendor says so.
        (openai(tokens=(30000, 15000, "30s")), 10**9, 30),
        # Groq's requests are by the day.
        (openai(requests=(14400, 0, "24h"), tokens=(18000, 17997, "7.66s")), 100, 6),
    ],
)
def test_a_limit_that_fills_up_is_waited_for_until_there_is_enough(headers, tokens, seconds):
    assert wait_s(headers, tokens) == pytest.approx(seconds, rel=0.02)


def test_anthropics_moments_count_from_its_own_date():
    spent = anthropic(
        requests=(4000, 3999, "2025-12-18T23:27:26Z"),
        input_tokens=(2000000, 0, "2025-12-18T23:28:26Z"),
        output_tokens=(400000, 400000, "2025-12-18T23:27:26Z"),
    )
    assert wait_s(spent, 100_000) == pytest.approx(3)
    assert wait_s(anthropic(requests=(50, 0, "2025-12-18T23:28:26Z"))) == pytest.approx(1.2)
    assert wait_s(anthropic(output_tokens=(8000, 0, "2025-12-18T23:28:26Z")), 10**6) < 0.01
    whole = anthropic(tokens=(2400000, 2400000, "2025-12-18T23:27:25Z"))
    assert wait_s(whole, 10**7) == 0


def test_mistrals_minutes_are_those_of_its_clock():
    left = {
        "date": DATE,
        "x-ratelimit-limit-tokens-minute": "100000",
        "x-ratelimit-remaining-tokens-minute": "300",
        "x-ratelimit-tokens-query-cost": "60",
        "x-ratelimit-limit-req-minute": "100",
        "x-ratelimit-remaining-req-minute": "94",
    }
    assert wait_s(left, 300) == 0
    assert wait_s(left, 301) == 34
    assert wait_s({**left, "x-ratelimit-remaining-req-minute": "0"}, 1) == 34
    del left["date"]
    assert wait_s(left, 301) == GUESS_S


def test_mistrals_older_headers_tell_the_reset():
    by_size = {
        "ratelimitbysize-limit": "500000",
        "ratelimitbysize-remaining": "9",
        "ratelimitbysize-reset": "19",
    }
    assert wait_s(by_size, 10) == 19
    assert wait_s(by_size, 9) == 0


def test_a_key_without_any_allowance_is_not_waited_for():
    """Mistral's answer to some keys: a limit of 0. Its 429 says more than a wait would."""
    none = {"x-ratelimit-limit-req-minute": "0", "x-ratelimit-remaining-req-minute": "0", "date": DATE}
    quota = told(none)
    quota.spend(1, NOW)
    assert quota.ready_at(NOW, 10) == NOW


def test_azure_tells_no_reset_so_that_a_short_one_is_guessed():
    spent = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "19913"}
    quota = told(spent)
    assert quota.ready_at(NOW, 10) == NOW + GUESS_S
    assert quota.ready_at(NOW + GUESS_S, 10**9) == NOW + GUESS_S


def test_a_limit_that_does_not_fill_up_is_waited_for_until_its_reset():
    assert wait_s(openai(requests=(100, 0, "20s"))) == 20
    assert wait_s(openai(requests=("many", 0, "20s"))) == 20


def test_cerebras_tells_seconds():
    spent = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14000",
        "x-ratelimit-reset-requests-day": "33011.382867",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "10",
        "x-ratelimit-reset-tokens-minute": "11.382867",
        "date": DATE,
    }
    assert wait_s(spent, 100) == pytest.approx(11.382867)


def test_calls_in_flight_do_not_all_take_the_last_one():
    quota = told(openai(requests=(100, 3, "58.2s")))
    for _ in range(3):
        assert quota.ready_at(NOW, 10) == NOW
        quota.spend(10, NOW)
    assert quota.ready_at(NOW, 10) == pytest.approx(NOW + 0.6)
    quota.spend(10, NOW)
    assert quota.ready_at(NOW, 10) == pytest.approx(NOW + 1.2)


def test_an_answer_counts_the_calls_before_it_and_not_those_after():
    quota = told(openai(tokens=(1000, 1000, "0s")))
    first, second = quota.spend(100, NOW), quota.spend(200, NOW)
    third = quota.spend(300, NOW)
    quota.learn(openai(tokens=(1000, 700, "18s")), NOW + 1, mark=second)
    assert quota.ready_at(NOW + 1, 400) == NOW + 1
    assert quota.ready_at(NOW + 1, 401) > NOW + 1
    quota.learn(
        openai(tokens=(1000, 900, "6s")), NOW + 2, mark=first
    )  # sent before, answered later: old news
    assert quota.ready_at(NOW + 2, 450) > NOW + 2
    quota.learn(openai(tokens=(1000, 430, "34s")), NOW + 3, mark=third)
    assert quota.ready_at(NOW + 3, 430) == NOW + 3


def test_what_a_refusal_says_counts_at_once():
    quota = told(openai(requests=(100, 90, "6s")))
    refused = openai(requests=(100, 0, "60s")) | {"retry-after": "1"}
    quota.learn(refused, NOW + 0.001)
    assert quota.ready_at(NOW + 0.001, 1) == pytest.approx(NOW + 0.601)


def test_the_latest_of_many_answers_counts_where_there_is_a_shortage():
    quota = told(openai(requests=(100, 1, "59.4s")))
    mark = quota.spend(1, NOW)
    quota.learn(openai(requests=(100, 60, "24s")), NOW + 0.001, mark=mark)
    assert quota.ready_at(NOW + 0.001, 1) == NOW + 0.001


def test_the_end_of_a_window_that_no_answer_has_told_of_is_looked_for_soon():
    """The vendor's window is a second; the calls of the next one are out, and their answers will tell."""
    quota = told(openai(requests=(1, 0, "1s")))
    assert quota.ready_at(NOW, 1) == NOW + 1
    mark = quota.spend(1, NOW + 1)
    assert quota.ready_at(NOW + 1, 1) == NOW + 2
    quota.learn(openai(requests=(1, 0, "1s")), NOW + 1.5, mark=mark)
    assert quota.ready_at(NOW + 1.5, 1) == NOW + 2.5


def test_after_its_reset_a_limit_is_full_and_no_fuller():
    """Calls after a rest: the limit is remembered, so that a burst does not run into it."""
    headers = {"date": DATE, "x-ratelimit-limit-req-minute": "5", "x-ratelimit-remaining-req-minute": "0"}
    for quota, wait in ((told(headers), 54), (told(openai(requests=(5, 0, "60s"))), 12)):
        assert quota.ready_at(NOW + 100, 1) == NOW + 100
        for _ in range(5):
            assert quota.ready_at(NOW + 100, 1) == NOW + 100
            quota.spend(1, NOW + 100)
        assert quota.ready_at(NOW + 100, 1) == pytest.approx(NOW + 100 + wait)


def test_an_hour_after_its_last_word_a_vendor_holds_nobody_up():
    quota = told(openai(requests=(10, 0, "23h")))
    assert quota.ready_at(NOW, 1) == NOW + MAX_WAIT_S
    assert quota.ready_at(NOW + MAX_WAIT_S, 1) == NOW + MAX_WAIT_S


HEADERS = st.sampled_from([name for names in _ALL for name in (names.remaining, names.limit, names.reset)])
VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.from_regex(r"\d{1,12}(\.\d+)?(ms|[smhd])", fullmatch=True),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(
        ["0", "1", "50", "0s", "6m0s", "1d", "999999999d", "NaN", "\u0661\u0662", "-1", "9" * 5000]
    ),
)
SOUP = st.dictionaries(
    st.one_of(HEADERS, st.just("date"), st.just("retry-after"), st.text()), VALUES, max_size=12
)
STEPS = st.lists(
    st.tuples(SOUP, st.booleans(), st.integers(0, 10**6), st.floats(0, 10_000)), min_size=1, max_size=8
)


@given(STEPS)
def test_no_soup_of_headers_ever_raises_or_makes_anyone_wait_beyond_the_cap(steps):
    quota, now = Quota(), NOW
    for headers, answered_late, tokens, seconds in steps:
        mark = quota.spend(tokens, now)
        quota.learn(headers, now, mark=mark if answered_late else None)
        now += seconds
        assert now <= quota.ready_at(now, tokens) <= now + MAX_WAIT_S


@given(
    st.integers(1, 100),
    st.integers(0, 100),
    st.floats(0.1, 60),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_never_meets_an_empty_limit(limit, used, first_s, gaps):
    """Against a vendor that fills up continuously, counts each call as it comes and answers at once."""
    rate_per_s, level, since = limit / 60, float(max(limit - used, 0)), NOW
    quota, now = Quota(), NOW + first_s
    for number, gap in enumerate([0.0, *gaps]):
        now = max(quota.ready_at(now + gap, 1), now + gap)
        level, since = min(level + rate_per_s * (now - since), limit), now
        mark = quota.spend(1, now)
        if number:  # before the first answer nothing is known
            assert level >= 1 - 1e-6
        level = max(level - 1, 0)
        reset = f"{(limit - level) / rate_per_s:.3f}s"
        quota.learn(openai(requests=(limit, int(level), reset)), now, mark=mark)
