import fcntl
import os
import time
from pathlib import Path

import orjson

from analytics import segments
from analytics.segments import EMPTY_KEPT_S, Segment, Shipment, discard, final_segments, keep_rejected
from analytics.tests.spool_files import BOOT, done, opened, write


def ids(lines: str) -> list[str]:
    return [orjson.loads(line)["id"] for line in lines.splitlines()]


def load(segment: Segment) -> Shipment:
    shipment = segments.load(segment)
    assert shipment is not None
    return shipment


def only(directory: Path, name: str = ""):
    return next(segment for segment in final_segments(directory) if not name or segment.name == name)


def test_it_lists_closed_segments_oldest_first(tmp_path):
    for sequence, age in ((1, 30), (2, 10), (3, 20)):
        path = write(tmp_path, sequence, [done("a")])
        os.utime(path, (time.time() - age, time.time() - age))
    (tmp_path / "shipper.lock").touch()
    (tmp_path / "rejected").mkdir()
    names = [segment.name[-1] for segment in final_segments(tmp_path)]
    assert names == ["1", "3", "2"]


def test_it_leaves_an_open_segment_to_the_writer_that_holds_it(tmp_path):
    path = write(tmp_path, 1, [done("a")], suffix=".open")
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert final_segments(tmp_path) == []
    assert only(tmp_path).abandoned


def test_it_does_not_hold_the_lock_of_a_segment_that_its_writer_is_about_to_take(tmp_path):
    path = write(tmp_path, 1, [], suffix=".open")
    assert final_segments(tmp_path) == []
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_removes_what_a_dead_writer_had_only_allocated(tmp_path):
    path = write(tmp_path, 1, [], suffix=".open")
    path.write_bytes(b"\0" * 10_000)
    with path.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert final_segments(tmp_path) == []
        assert path.exists()
    assert final_segments(tmp_path) == []
    assert not path.exists()


def test_it_reads_the_lines_before_what_was_only_allocated(tmp_path):
    path = write(tmp_path, 1, [opened("a"), done("b"), b'{"kind": "do'], suffix=".open")
    with path.open("ab") as file:
        file.write(b"\0" * 10_000)
    shipment = load(only(tmp_path))
    assert (ids(shipment.done), ids(shipment.interrupted), shipment.torn, shipment.rejected) == (
        ["b"],
        ["a"],
        1,
        [],
    )


def test_it_removes_an_empty_segment_that_a_dead_writer_left_long_ago(tmp_path):
    path = write(tmp_path, 1, [], suffix=".open")
    long_ago = time.time() - EMPTY_KEPT_S - 1
    os.utime(path, (long_ago, long_ago))
    assert final_segments(tmp_path) == []
    assert not path.exists()


def test_it_sends_only_done_lines_of_a_closed_segment_and_counts_all(tmp_path):
    write(tmp_path, 1, [opened("a"), done("a"), opened("b"), b'{"kind":"settled","id":"a"}\n'])
    shipment = load(only(tmp_path))
    assert ids(shipment.done) == ["a"]
    assert shipment.interrupted == ""
    assert shipment.lines == 4


def test_it_finds_the_calls_that_a_dead_writer_never_ended(tmp_path):
    write(tmp_path, 1, [opened("a"), opened("b"), done("a")])
    write(tmp_path, 2, [opened("b"), opened("c"), done("c"), opened("d")], suffix=".open")
    shipment = load(only(tmp_path, f"{BOOT}-0-00000002"))
    assert ids(shipment.done) == ["c"]
    assert ids(shipment.interrupted) == ["b", "d"]


def test_it_counts_a_retried_call_once_with_the_last_upstream(tmp_path):
    write(tmp_path, 1, [opened("a"), opened("a", key_id=9)], suffix=".open")
    (line,) = load(only(tmp_path)).interrupted.splitlines()
    assert orjson.loads(line)["key_id"] == 9


def test_it_reads_both_open_segments_of_a_writer_that_died_between_two(tmp_path):
    """The next segment is made, and calls carried over, before the old one is renamed."""
    write(tmp_path, 1, [opened("a"), opened("b"), opened("c"), done("c")], suffix=".open")
    write(tmp_path, 2, [opened("a"), opened("b"), done("a")], suffix=".open")
    first, second = (load(segment) for segment in final_segments(tmp_path))
    assert ids(first.interrupted) == ["b"]
    assert ids(second.interrupted) == ["b"]


def test_it_does_not_mix_up_writers(tmp_path):
    write(tmp_path, 1, [opened("a")], suffix=".open")
    write(tmp_path, 1, [done("a")], boot="9876543210", suffix=".seg")
    assert ids(load(only(tmp_path, f"{BOOT}-0-00000001")).interrupted) == ["a"]


def test_it_skips_and_counts_a_torn_last_line(tmp_path):
    write(tmp_path, 1, [done("a"), done("b")[:-20]], suffix=".open")
    shipment = load(only(tmp_path))
    assert (ids(shipment.done), shipment.torn, shipment.rejected) == (["a"], 1, [])


def test_it_takes_a_last_line_that_lacks_only_its_newline(tmp_path):
    write(tmp_path, 1, [done("a"), done("b")[:-1]], suffix=".open")
    shipment = load(only(tmp_path))
    assert (ids(shipment.done), shipment.torn) == (["a", "b"], 0)


def test_it_keeps_lines_that_make_no_sense_aside(tmp_path):
    strange = [
        b"\0\0\0\0\n",
        b"[]\n",
        b'{"kind":"later"}\n',
        b'{"kind":"done","id":7,"at":1}\n',
        b'{"kind":"done","id":"a\\u0000","at":1}\n',
        b'{"kind":"done","id":"' + b"x" * 61 + b'","at":1}\n',
        b'{"kind":"done","id":"a"}\n',
        b'{"kind":"done","id":"a","at":1e300}\n',
        b'{"kind":"done","id":"a","at":1,"error":"\xff"}\n',
    ]
    write(tmp_path, 1, [done("b"), *strange, done("c")])
    shipment = load(only(tmp_path))
    assert ids(shipment.done) == ["b", "c"]
    assert list(shipment.rejected) == [line[:-1] for line in strange]
    assert shipment.lines == 11
    keep_rejected(tmp_path, shipment)
    # Nothing is doubled when a shipper starts again.
    assert keep_rejected(tmp_path, shipment).read_bytes() == b"".join(strange)


def test_it_discards_a_segment_under_either_name(tmp_path):
    path = write(tmp_path, 1, [done("a")], suffix=".open")
    segment = only(tmp_path)
    path.rename(path.with_suffix(".seg"))
    assert segments.load(segment) is None
    discard(tmp_path, segment.name)
    assert final_segments(tmp_path) == []
