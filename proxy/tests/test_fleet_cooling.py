from proxy.fleet.cooling import GUESS_S, Cooling


def test_it_leaves_a_credential_alone_for_as_long_as_the_vendor_said():
    cooling = Cooling()
    cooling.cool("a", now=100.0, told_s=7.0)
    assert cooling.of("a", 106.9) == (107.0, True)
    assert cooling.of("a", 107.0) is None
    assert not cooling


def test_it_guesses_where_the_vendor_said_nothing():
    cooling = Cooling()
    cooling.cool("a", now=100.0, told_s=None)
    assert cooling.of("a", 100.0) == (100.0 + GUESS_S, False)


def test_it_takes_no_guess_for_a_vendors_word():
    """The second of two that were under way is limited without a word: the first word still holds."""
    cooling = Cooling()
    cooling.cool("a", now=100.0, told_s=30.0)
    cooling.cool("a", now=101.0, told_s=None)
    assert cooling.of("a", 102.0) == (130.0, True)


def test_it_takes_a_vendors_word_for_its_own_guess():
    cooling = Cooling()
    cooling.cool("a", now=100.0, told_s=None)
    cooling.cool("a", now=101.0, told_s=2.0)
    assert cooling.of("a", 102.0) == (103.0, True)


def test_it_keeps_the_longer_of_two_words():
    cooling = Cooling()
    cooling.cool("a", now=100.0, told_s=30.0)
    cooling.cool("a", now=101.0, told_s=2.0)
    assert cooling.of("a", 102.0) == (130.0, True)
    cooling.cool("a", now=102.0, told_s=60.0)
    assert cooling.of("a", 103.0) == (162.0, True)


def test_it_says_when_the_first_of_them_has_ended():
    cooling = Cooling()
    assert cooling.until(100.0) == 100.0
    cooling.cool("a", now=100.0, told_s=30.0)
    cooling.cool("b", now=100.0, told_s=20.0)
    assert cooling.until(100.0) == 120.0
    assert cooling.until(125.0) == 130.0
    cooling.clear()
    assert cooling.until(125.0) == 125.0


def test_it_begins_and_ends_with_nothing_to_look_at():
    cooling = Cooling()
    assert not cooling
    cooling.cool("a", now=100.0, told_s=0.0)
    assert cooling.of("a", 100.0) is None
    assert not cooling
