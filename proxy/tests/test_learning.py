from proxy import learning
from proxy.learning import ENOUGH, KEPT, Learned


def test_it_says_nothing_before_it_has_seen_enough():
    learned = Learned()
    for _ in range(ENOUGH - 1):
        learned.saw("k", 10)
    assert learned.output("k") is None
    learned.saw("k", 10)
    assert learned.output("k") == 10
    assert learned.output("another") is None


def test_nine_of_ten_answers_have_no_more_than_it_says():
    learned = Learned()
    for tokens in range(1, KEPT + 1):
        learned.saw("k", tokens)
    usual = learned.output("k")
    assert usual is not None
    assert sum(tokens <= usual for tokens in range(1, KEPT + 1)) >= 0.9 * KEPT
    assert usual < KEPT


def test_it_goes_by_the_last_answers():
    learned = Learned()
    for tokens in [1000] * KEPT + [10] * KEPT:
        learned.saw("k", tokens)
    assert learned.output("k") == 10


def test_it_forgets_who_has_not_asked_for_longest(monkeypatch):
    monkeypatch.setattr(learning, "MAX_KNOWN", 2)
    learned = Learned()
    for key in ("a", "b", "a", "c"):
        for _ in range(ENOUGH):
            learned.saw(key, 5)
    assert [learned.output(key) for key in ("a", "b", "c")] == [5, None, 5]
