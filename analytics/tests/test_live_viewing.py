"""What a viewer is told: their own, what they want, and no more than they confirm."""

import pytest

from analytics.live.events import event_of
from analytics.live.viewing import AT_ONCE, UNCONFIRMED, WAITING, Viewer, Wanted
from analytics.tests.live_kit import failure, finished


def news(*completions, unsent=0):
    seen, failed = {}, {}
    for each in completions:
        tenant = str(each.tenant_id or 0)
        seen[tenant] = seen.get(tenant, 0) + 1
        failed[tenant] = failed.get(tenant, 0) + (each.outcome != "ok")
    return {
        "seen": seen,
        "failed": failed,
        "unsent": unsent,
        "events": [event_of(each) for each in completions],
    }


def batch_of(viewer):
    batch = viewer.take()
    assert batch is not None
    return batch


def told(viewer):
    batch = viewer.take()
    return [each["id"] for each in batch["events"]] if batch else None


def test_an_operator_sees_all_and_a_member_their_own():
    everything, own = Viewer(None), Viewer(frozenset({7}))
    both = news(finished(id="a", tenant_id=7), failure(id="b", tenant_id=8), finished(id="c"))
    for viewer in (everything, own):
        viewer.hear({**both, "unsent": 4})
    assert everything.take() == {
        "type": "batch",
        "number": 1,
        "events": both["events"],
        "seen": 3,
        "failed": 1,
        "sampled": 4,
        "slow": 0,
        "missed": 0,
    }
    batch = batch_of(own)
    assert [each["id"] for each in batch["events"]] == ["a"]
    assert (batch["seen"], batch["failed"], batch["sampled"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("wishes", "wanted"),
    [
        ({}, "ab"),
        ({"provider": "OPEN"}, "a"),
        ({"model": "gpt"}, "a"),
        ({"model": "slow"}, "b"),
        ({"key": "ci"}, "a"),
        ({"status": "5xx"}, "b"),
        ({"status": "502"}, "b"),
        ({"status": "2"}, "a"),
        ({"errors": True}, "b"),
        ({"errors": True, "provider": "openai"}, ""),
    ],
)
def test_filters_narrow(wishes, wanted):
    viewer = Viewer(None)
    viewer.change({"filter": wishes})
    two = news(
        finished(id="a", key_prefix="sk-gw-CI"),
        failure(id="b", provider="mistral", model="large", requested_model="slow"),
    )
    viewer.hear(two)
    assert "".join(told(viewer)) == wanted


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ([], "must be a JSON object"),
        ({"stop": True}, "stop: unknown"),
        ({"filter": "x"}, "filter: must be an object"),
        ({"filter": {"tenant": "x"}}, "filter.tenant: unknown"),
        ({"filter": {"model": 5}}, "filter.model: must be a text"),
        ({"filter": {"model": "x" * 201}}, "at most 200"),
        (
            {"filter": {"status": "bad"}},
            'filter.status: must be a status or a class of them, as "429" or "5xx"',
        ),
        ({"filter": {"status": 429}}, "filter.status"),
        ({"filter": {"errors": "yes"}}, "filter.errors: must be true or false"),
        ({"pause": 1}, "pause: must be true or false"),
        ({"confirm": 1}, "confirm: must be the number"),
        ({"confirm": True}, "confirm: must be the number"),
    ],
)
def test_what_it_does_not_understand_is_told_by_name(message, words):
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        Viewer(None).change(message)


def test_a_pause_counts_what_it_misses():
    viewer = Viewer(None)
    viewer.change({"pause": True, "filter": {"errors": True}})
    viewer.hear(news(finished(), failure(), failure()))
    batch = batch_of(viewer)
    assert (batch["events"], batch["seen"], batch["missed"]) == ([], 3, 2)
    viewer.change({"pause": False})
    viewer.hear(news(failure(id="x")))
    assert told(viewer) == ["x"]


def test_one_who_is_slow_gets_no_more_and_is_told_how_many():
    viewer = Viewer(None)
    for _ in range(UNCONFIRMED):
        viewer.hear(news(finished()))
        assert viewer.take() is not None
    many = WAITING + 30
    viewer.hear(news(*[finished() for _ in range(many)]))
    assert viewer.take() is None
    assert viewer.take(beat=True) is None
    viewer.change({"confirm": UNCONFIRMED})
    batch = batch_of(viewer)
    assert len(batch["events"]) == AT_ONCE
    assert (batch["seen"], batch["slow"]) == (many, 30)


def test_there_is_nothing_to_say_but_that_it_lives():
    viewer = Viewer(None)
    assert viewer.take() is None
    assert viewer.take(beat=True) is not None
    assert not Wanted({"status": "4xx"}).has(event_of(finished()))
