import asyncio

from providers.events import TextEvent, done_event
from proxy import flights as module
from proxy.cache import JSON, Entry
from proxy.flights import Flights

KEY = b"key"
ENTRY = Entry(form=JSON, body=b"{}", provider="a", model="m", stored_at=0.0, usage=None)


async def test_it_is_found_while_it_is_in_the_air():
    flights = Flights()
    assert flights.find(KEY) is None
    flight = flights.start(KEY)
    assert flights.find(KEY) is flight
    flight.land(ENTRY)
    assert (flights.find(KEY), flight.entry, flight.over) == (None, ENTRY, True)


async def test_a_flight_that_ends_late_does_not_close_another():
    flights = Flights()
    old, new = flights.start(KEY), flights.start(KEY)
    old.end()
    assert flights.find(KEY) is new


async def test_it_wakes_all_who_wait_once():
    flight = Flights().start(KEY)
    waiting = [asyncio.create_task(flight.more()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    flight.add([TextEvent("x")])
    await asyncio.gather(*waiting, return_exceptions=True)
    assert flight.batches == [[*flight.batches[0]]]
    assert (flight.whole, flight._waiting) == (False, [])
    flight.add([done_event()])
    assert flight.whole


async def test_it_detains_its_leader_only_for_those_who_follow():
    flight, given_up = Flights().start(KEY), []
    assert not flight.detain(lambda: given_up.append(1))
    flight.join()
    flight.join()
    assert flight.detain(lambda: given_up.append(1))
    flight.leave()
    assert given_up == []
    flight.leave()
    assert given_up == [1]


async def test_it_takes_nobody_on_when_it_is_given_up():
    """Who came between that and its end would see a stream break off."""
    flights = Flights()
    flight, found = flights.start(KEY), []
    flight.join()
    flight.detain(lambda: found.append(flights.find(KEY)))
    flight.leave()
    assert found == [None]


async def test_it_detains_nobody_once_it_is_over():
    flight = Flights().start(KEY)
    flight.join()
    flight.end()
    assert not flight.detain(lambda: None)
    flight.leave()


async def test_a_stream_that_has_said_too_much_takes_nobody_on(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT_EVENTS", 3)
    flights = Flights()
    flight = flights.start(KEY)
    flight.add([TextEvent("a"), TextEvent("b")])
    flight.add([TextEvent("c"), TextEvent("d")])
    assert flights.find(KEY) is None
    assert flight.batches == []


async def test_who_follows_already_gets_all_of_a_long_stream(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT_EVENTS", 3)
    flights = Flights()
    flight = flights.start(KEY)
    flight.join()
    for _ in range(5):
        flight.add([TextEvent("a")])
    assert flights.find(KEY) is None
    assert len(flight.batches) == 5
