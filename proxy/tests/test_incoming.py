import asyncio

import pytest

from proxy.incoming import Incoming
from proxy.tests.fakes import Client, until


async def all_of(incoming):
    pieces = []
    while piece := await incoming.piece():
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"a", b"", b"c"], [b"abc", b""]])
async def test_it_gives_the_body_piece_by_piece(pieces):
    incoming = Incoming(Client("POST", "/", pieces).receive)
    assert await all_of(incoming) == [piece for piece in pieces if piece]
    assert incoming.over
    assert await incoming.piece() == b""


async def test_it_tells_of_a_departure_only_behind_the_body():
    client = Client("POST", "/", [b"a", b"b"])
    incoming = Incoming(client.receive)
    departure = asyncio.ensure_future(incoming.departure())
    assert await incoming.piece() == b"a"
    assert client.received == 1  # the other one waits until it is asked for
    assert await incoming.piece() == b"b"
    await asyncio.sleep(0)
    assert not departure.done()
    client.left.set()
    assert (await departure)["type"] == "http.disconnect"


async def test_it_tells_of_a_departure_in_the_middle_and_lets_the_reader_wait_for_its_end():
    client = Client("POST", "/")
    client._pieces = [{"type": "http.request", "body": b"a", "more_body": True}]
    incoming = Incoming(client.receive)
    departure = asyncio.ensure_future(incoming.departure())
    reading = asyncio.ensure_future(all_of(incoming))
    client.left.set()
    assert (await departure)["type"] == "http.disconnect"
    await asyncio.sleep(0)
    assert not reading.done()
    reading.cancel()


async def test_it_forgets_what_nobody_wants():
    client = Client("POST", "/", [b"a", b"b", b"c"])
    incoming = Incoming(client.receive)
    departure = asyncio.ensure_future(incoming.departure())
    assert await incoming.piece() == b"a"
    incoming.give_up()
    await until(lambda: client.received == 3)
    client.left.set()
    await departure
