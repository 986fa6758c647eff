import threading
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import pytest

from analytics.segments import Shipment
from analytics.shipper import IN_FLIGHT, Shipper, alone
from analytics.tests.spool_files import done, write


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Database:
    """Receipts, and a broker in front of them that works, loses everything, or is down."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.receipts: set[str] = set()
        self.published: list[str] = []
        self.down = False
        self.broker_down = False
        self.delivers = True
        self.refuses = ""

    def publish(self, shipment: Shipment) -> None:
        if self.broker_down or shipment.segment.endswith(self.refuses or "none"):
            raise ConnectionError("broker")
        self.published.append(shipment.segment)
        if self.delivers:
            self.receipts.add(shipment.segment)

    def receipts_of(self, segments: Collection[str]) -> set[str]:
        if self.down:
            raise ConnectionError("database")
        return self.receipts & set(segments)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def shipper(tmp_path, database) -> Shipper:
    return Shipper(tmp_path, publish=database.publish, receipts=database.receipts_of, clock=database.clock)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    events: list[str] = []

    class Log:
        def __getattr__(self, level):
            return lambda event, **_: events.append(event)

    monkeypatch.setattr("analytics.shipper.log", Log())
    return events


def spool(directory: Path, count: int) -> None:
    for sequence in range(1, count + 1):
        write(directory, sequence, [done(f"c{sequence}")])


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.seg"))


def settle(shipper: Shipper, clock: Clock, *, seconds: float = 1, steps: int = 20) -> None:
    for _ in range(steps):
        shipper.step()
        clock.now += seconds / steps


def test_it_deletes_a_segment_only_after_reading_its_receipt_back(tmp_path, shipper, database):
    spool(tmp_path, 1)
    database.delivers = False
    shipper.step()
    shipper.step()
    assert len(files(tmp_path)) == 1
    database.receipts.update(database.published)
    shipper.step()
    assert files(tmp_path) == []


def test_it_publishes_again_without_a_receipt_after_60_s_then_ever_more_rarely(tmp_path, shipper, database):
    spool(tmp_path, 1)
    database.delivers = False
    times = []
    for _ in range(600):
        before = len(database.published)
        shipper.step()
        if len(database.published) > before:
            times.append(database.clock.now - 1000)
        database.clock.now += 1
    assert times == [0, 60, 180, 420]


def test_it_does_not_publish_what_a_killed_predecessor_got_a_receipt_for(tmp_path, shipper, database):
    spool(tmp_path, 2)
    database.receipts.add(files(tmp_path)[0].stem)
    shipper.step()
    assert [name[-1] for name in database.published] == ["2"]


def test_it_has_a_bounded_number_in_flight_oldest_first(tmp_path, shipper, database):
    spool(tmp_path, IN_FLIGHT + 5)
    database.delivers = False
    shipper.step()
    shipper.step()
    assert [int(name[-2:]) for name in database.published] == list(range(1, IN_FLIGHT + 1))


def test_a_segment_without_receipt_gives_its_place_to_the_next(tmp_path, shipper, database):
    spool(tmp_path, IN_FLIGHT + 5)
    database.delivers = False
    settle(shipper, database.clock)
    database.delivers = True
    settle(shipper, database.clock, seconds=300, steps=100)
    assert files(tmp_path) == []


def test_it_survives_a_database_outage_and_tells_begin_and_end(tmp_path, shipper, database, said):
    database.down = True
    spool(tmp_path, 3)
    settle(shipper, database.clock, seconds=100, steps=1000)
    assert said == ["shipping_paused"]
    assert database.published == []
    database.down = False
    settle(shipper, database.clock, seconds=20)
    assert files(tmp_path) == []
    assert said == ["shipping_paused", "shipping_resumed"]


def test_it_pauses_longer_each_time_up_to_15_s(tmp_path, shipper, database):
    spool(tmp_path, 1)
    asked: list[float] = []
    database.down = True

    def receipts(segments):
        asked.append(database.clock.now)
        return database.receipts_of(segments)

    shipper._receipts = receipts
    for _ in range(10_000):
        shipper.step()
        database.clock.now += 0.01
    gaps = [round(after - before, 1) for before, after in pairwise(asked)]
    assert gaps[:7] == pytest.approx([0.2, 0.5, 1, 2, 4, 8, 15], abs=0.11)
    assert max(gaps) <= 15.1


def test_it_survives_a_broker_outage(tmp_path, shipper, database, said):
    spool(tmp_path, 20)
    database.broker_down = True
    settle(shipper, database.clock, seconds=60, steps=600)
    assert said == ["shipping_paused"]
    database.broker_down = False
    settle(shipper, database.clock, seconds=60, steps=600)
    assert files(tmp_path) == []
    assert said == ["shipping_paused", "shipping_resumed"]


def test_a_segment_that_always_fails_holds_up_no_other(tmp_path, shipper, database):
    spool(tmp_path, 30)
    database.refuses = "00001"
    settle(shipper, database.clock, seconds=30, steps=300)
    assert [path.stem[-2:] for path in files(tmp_path)] == ["01"]


def test_it_keeps_rejected_lines_and_ships_the_rest(tmp_path, shipper, database, said):
    write(tmp_path, 1, [done("a"), b"nonsense\n", done("b")])
    shipper.step()
    shipper.step()
    assert files(tmp_path) == []
    assert [path.read_bytes() for path in (tmp_path / "rejected").iterdir()] == [b"nonsense\n"]
    assert said == ["spool_lines_rejected"]


def test_it_ships_what_was_closed_before_the_end(tmp_path, database):
    stop = threading.Event()
    stop.set()
    spool(tmp_path, 30)
    Shipper(tmp_path, publish=database.publish, receipts=database.receipts_of).run(stop)
    assert files(tmp_path) == []


def test_it_ends_at_once_when_the_database_is_down(tmp_path, database, said):
    stop = threading.Event()
    stop.set()
    database.down = True
    spool(tmp_path, 1)
    Shipper(tmp_path, publish=database.publish, receipts=database.receipts_of).run(stop, last_pass_s=3600)
    assert said == ["shipping_paused", "shipper_left_segments"]


def test_it_does_not_wait_for_ever_for_receipts_at_the_end(tmp_path, database, said):
    stop = threading.Event()
    stop.set()
    database.delivers = False
    spool(tmp_path, 1)
    Shipper(tmp_path, publish=database.publish, receipts=database.receipts_of).run(stop, idle_s=0.05)
    assert said == ["shipper_left_segments"]


def test_a_second_shipper_waits_for_the_first(tmp_path):
    stop, entered = threading.Event(), threading.Event()

    def second() -> None:
        with alone(tmp_path, stop) as at_work:
            if at_work:
                entered.set()

    with alone(tmp_path, stop) as at_work:
        assert at_work
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(5)
    thread.join()


def test_a_waiting_shipper_ends_when_it_is_told_to(tmp_path):
    stop = threading.Event()
    with alone(tmp_path, stop):
        stop.set()
        with alone(tmp_path, stop) as at_work:
            assert not at_work
