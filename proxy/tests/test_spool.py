import errno
import fcntl
import os
import subprocess
import threading
from pathlib import Path

import orjson
import pytest

from analytics.segments import final_segments, load
from proxy import segment as segment_module
from proxy import spool as module
from proxy.segment import Segment
from proxy.spool import SEGMENT_BYTES, Spool, backlog
from proxy.tests.fakes import Log
from tests.servers import eventually


@pytest.fixture(autouse=True)
def log(monkeypatch):
    recorder = Log()
    monkeypatch.setattr(module, "log", recorder)
    return recorder


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def still(monkeypatch):
    """Let the thread do nothing: the test turns the clock."""
    monkeypatch.setattr(Spool, "_run", lambda _: None)


@pytest.fixture
def unmapped(monkeypatch):
    """Say that the disk is nearly full: lines are written, not mapped."""
    monkeypatch.setattr(segment_module, "MAPPED_ABOVE_BYTES", 1 << 60)


@pytest.fixture
def make(directory):
    made = []

    def make(boot="boot", worker=0, **options):
        made.append(Spool(directory, boot=boot, worker=worker, **{"reserve_bytes": 0, **options}))
        return made[-1]

    yield make
    for spool in made:
        spool.close()


def open_line(identity, padding=""):
    return orjson.dumps({"kind": "open", "id": identity, "at": 1.0, "x": padding}) + b"\n"


def done_line(identity):
    return orjson.dumps({"kind": "done", "id": identity, "at": 1.0}) + b"\n"


def names(directory, suffix):
    return sorted(path.name for path in directory.iterdir() if path.suffix == suffix)


def text_of(directory, suffix):
    return b"".join(content_of(directory / name) for name in names(directory, suffix))


def content_of(path):
    """Return what was written, without what is only allocated."""
    return path.read_bytes().rstrip(b"\0")


def is_locked(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- writing


@pytest.mark.usefixtures("still")
def test_it_writes_at_once_to_a_segment_that_it_holds(make, directory):
    spool = make()
    spool.append(b"one\n")
    spool.append(b"two\n")
    assert names(directory, ".open") == ["boot-0-00000001.open"]
    path = directory / "boot-0-00000001.open"
    assert content_of(path) == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_locked(path)


def test_it_leaves_a_whole_segment_when_it_closes(make, directory):
    spool = make()
    spool.append(b"one\n")
    spool.close()
    assert names(directory, ".open") == []
    assert names(directory, ".seg") == ["boot-0-00000001.seg"]
    assert not is_locked(directory / "boot-0-00000001.seg")
    spool.close()  # once more is no harm


def test_it_leaves_nothing_when_nothing_was_written(make, directory):
    make().close()
    assert list(directory.iterdir()) == []


def test_it_makes_its_directory(tmp_path):
    spool = Spool(tmp_path / "a" / "b", boot="boot", worker=0, reserve_bytes=0)
    spool.close()
    assert (tmp_path / "a" / "b").is_dir()


# ---------------------------------------------------------------- rotation


@pytest.mark.usefixtures("still")
def test_it_closes_a_segment_a_second_after_its_first_line(make, directory):
    spool = make()
    spool._tick(0.0)
    assert names(directory, ".seg") == []
    spool.append(b"one\n")
    spool._tick(spool._first_line_at + 0.99)
    assert names(directory, ".seg") == []
    spool._tick(spool._first_line_at + 1.0)
    assert text_of(directory, ".seg") == b"one\n"
    spool.append(b"two\n")
    assert text_of(directory, ".open") == b"two\n"


@pytest.mark.usefixtures("still")
def test_it_closes_a_segment_at_a_megabyte(make, directory):
    spool = make()
    line = b"x" * 1023 + b"\n"
    for _ in range(SEGMENT_BYTES // len(line)):
        assert not spool._wake.is_set()
        spool.append(line)
    assert spool._wake.is_set()
    spool._tick(spool._first_line_at)
    assert len(text_of(directory, ".seg")) == SEGMENT_BYTES


def test_it_rotates_by_itself(make, directory):
    spool = make()
    spool.append(b"one\n")
    eventually(lambda: names(directory, ".seg"), what="a rotation")
    assert text_of(directory, ".seg") == b"one\n"


@pytest.mark.usefixtures("still")
def test_it_carries_calls_in_flight_over(make, directory):
    spool = make()
    spool.append_open("a", open_line("a"))
    spool.append_open("b", open_line("b"))
    spool.append_done("a", done_line("a"))
    spool._rotate()
    assert text_of(directory, ".seg") == open_line("a") + open_line("b") + done_line("a")
    assert text_of(directory, ".open") == open_line("b")
    spool.append_done("b", done_line("b"))
    spool._rotate()
    assert text_of(directory, ".open") == b""
    assert spool.in_flight == 0


@pytest.mark.usefixtures("still")
def test_it_keeps_the_latest_attempt_of_a_call_in_flight(make, directory):
    spool = make()
    spool.append_open("a", open_line("a", "first"))
    spool.append_open("a", open_line("a", "second"))
    spool._rotate()
    assert text_of(directory, ".open") == open_line("a", "second")


@pytest.mark.usefixtures("still")
def test_it_does_not_rotate_for_what_it_only_carries(make, directory):
    """An idle gateway with long streams must not write a segment a second."""
    spool = make()
    spool.append_open("a", open_line("a"))
    spool._tick(spool._first_line_at + 5)
    for later in range(10):
        spool._tick(1e9 + later)
    assert len(names(directory, ".seg")) == 1


@pytest.mark.usefixtures("still")
def test_it_does_not_rotate_for_ever_under_thousands_of_calls_in_flight(make, directory):
    """Carried-over lines beyond a megabyte are no reason to close the segment again."""
    spool = make()
    for number in range(3000):
        spool.append_open(str(number), open_line(str(number), "x" * 400))
    for _ in range(20):
        spool.append(b"{}\n")
        spool._tick(spool._first_line_at or 0.0)
    assert len(names(directory, ".seg")) <= 2


@pytest.mark.usefixtures("still")
def test_it_makes_the_next_segment_before_it_gives_the_last_one_away(make, directory, monkeypatch):
    """Whenever the process dies, each call in flight is in an open segment."""
    seen = []
    close = Segment.close

    def looking(segment, *, final):
        seen.append({name: content_of(directory / name) for name in names(directory, ".open")})
        close(segment, final=final)

    spool = make()
    spool.append_open("a", open_line("a"))
    monkeypatch.setattr(Segment, "close", looking)
    spool._rotate()
    assert seen == [{"boot-0-00000001.open": open_line("a"), "boot-0-00000002.open": open_line("a")}]
    monkeypatch.undo()


def test_it_loses_no_line_while_it_rotates(make, directory, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2000)
    spool = make()
    for number in range(5000):
        spool.append_open(str(number), open_line(str(number)))
        spool.append_done(str(number), done_line(str(number)))
        if number == 2000:
            eventually(lambda: names(directory, ".seg"), what="a rotation")
        if number == 4000:
            eventually(lambda: len(names(directory, ".seg")) >= 2, what="a second rotation")
    spool.close()
    done = [line for line in text_of(directory, ".seg").splitlines() if b'"done"' in line]
    assert sorted(int(orjson.loads(line)["id"]) for line in done) == list(range(5000))
    assert len(names(directory, ".seg")) > 2


# ---------------------------------------------------------------- room ahead


@pytest.mark.usefixtures("still")
def test_it_goes_on_where_the_allocated_room_ends(make, directory, monkeypatch):
    """A line that is longer than all the room, and lines after it."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    monkeypatch.setattr(module, "SLACK_BYTES", 100)
    spool = make()
    lines = [b"a" * 149 + b"\n", b"b" * 5000 + b"\n", b"c\n"]
    for line in lines:
        spool.append(line)
    assert text_of(directory, ".open") == b"".join(lines)
    spool._rotate()
    assert (directory / "boot-0-00000001.seg").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("kind", ["mapped", "written"])
@pytest.mark.usefixtures("still")
def test_it_cuts_what_it_did_not_need(make, directory, monkeypatch, kind):
    if kind == "written":
        monkeypatch.setattr(segment_module, "MAPPED_ABOVE_BYTES", 1 << 60)
    spool = make()
    spool.append(b"one\n")
    assert (directory / "boot-0-00000001.open").stat().st_size == (
        4 if kind == "written" else SEGMENT_BYTES + module.SLACK_BYTES
    )
    spool.close()
    assert (directory / "boot-0-00000001.seg").read_bytes() == b"one\n"


# ---------------------------------------------------------------- ends


@pytest.mark.usefixtures("still")
def test_it_leaves_calls_in_flight_to_be_booked_when_it_closes(make, directory):
    """The server cancelled them at the end of the grace period, and nobody else will tell of them."""
    spool = make()
    spool.append_open("a", open_line("a"))
    spool.append_open("b", open_line("b"))
    spool.append_done("b", done_line("b"))
    spool.close()
    (segment,) = final_segments(directory)
    shipment = load(segment)
    assert shipment is not None
    assert [orjson.loads(line)["id"] for line in shipment.interrupted.splitlines()] == ["a"]


@pytest.mark.usefixtures("still")
def test_it_takes_a_line_that_comes_after_the_end(make, directory):
    spool = make()
    spool.append_open("a", open_line("a"))
    spool.close()
    spool.append_done("a", done_line("a"))
    assert spool.in_flight == 0
    shipments = [load(segment) for segment in final_segments(directory)]
    assert [shipment.interrupted for shipment in shipments if shipment] == ["", ""]
    assert b"".join(shipment.done.encode() for shipment in shipments if shipment) + b"\n" == done_line("a")


def test_it_leaves_its_segment_to_the_shipper_when_its_process_is_killed(directory):
    """SIGKILL: what was appended is there, the lock is free, a torn line hides no other."""
    script = (
        "import os, signal, pathlib\n"
        "from proxy.spool import Spool\n"
        f"spool = Spool(pathlib.Path({str(directory)!r}), boot='dead', worker=1, reserve_bytes=0)\n"
        f"spool.append_open('a', {open_line('a')!r})\n"
        f"spool.append_open('b', {open_line('b')!r})\n"
        f"spool.append_done('b', {done_line('b')!r})\n"
        'spool.append(b\'{"kind": "do\')\n'
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import sys

    checkout = Path(module.__file__).parent.parent
    killed = subprocess.run([sys.executable, "-c", script], cwd=checkout, check=False)
    assert killed.returncode == -9
    (segment,) = final_segments(directory)
    assert segment.abandoned
    shipment = load(segment)
    assert shipment is not None
    assert (shipment.done.encode() + b"\n", shipment.torn) == (done_line("b"), 1)
    assert shipment.interrupted.encode() + b"\n" == open_line("a")


@pytest.mark.usefixtures("still")
def test_it_gives_nobody_a_segment_that_is_still_written(make, directory):
    spool = make()
    spool.append(b"{}\n")
    assert final_segments(directory) == []


def test_it_lets_two_writers_share_a_directory(make, directory):
    writers = [make("one", 0), make("one", 1), make("two", 0)]

    def write(spool, name):
        for number in range(300):
            spool.append(f"{name}-{number}\n".encode())

    threads = [threading.Thread(target=write, args=(spool, place)) for place, spool in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for spool in writers:
        spool.close()
    lines = text_of(directory, ".seg").decode().split()
    assert sorted(lines) == sorted(f"{place}-{number}" for place in range(3) for number in range(300))
    assert {name[:5] for name in names(directory, ".seg")} == {"one-0", "one-1", "two-0"}


def test_it_never_writes_into_a_segment_that_is_there_already(make, directory):
    make("one")
    with pytest.raises(FileExistsError):
        make("one")


# ---------------------------------------------------------------- trouble


@pytest.mark.usefixtures("still", "unmapped")
def test_it_completes_a_short_write(make, directory, monkeypatch):
    write = os.pwrite
    spool = make()
    monkeypatch.setattr(os, "pwrite", lambda descriptor, text, offset: write(descriptor, text[:3], offset))
    spool.append(b"a whole line\n")
    monkeypatch.undo()
    assert text_of(directory, ".open") == b"a whole line\n"


def failing(write, fail_at, problem=errno.ENOSPC):
    """Write half of the line at call number `fail_at`, then fail as told until the reserve is gone."""
    calls = iter(range(1000))

    def attempt(descriptor, text, offset):
        number = next(calls)
        if number in fail_at:
            raise OSError(problem, os.strerror(problem))
        return write(descriptor, text[: len(text) // 2] if number + 1 in fail_at else text, offset)

    return attempt


def reserved(spool):
    """Return how many bytes it keeps for a full disk."""
    return 0 if spool._reserve is None else os.fstat(spool._reserve.fileno()).st_size


def test_it_shares_its_reserve_with_no_successor(make, directory):
    """While one web process takes another's place, both have the same number."""
    first = make("first", reserve_bytes=4096)
    second = make("second", reserve_bytes=4096)
    first.close()
    assert (reserved(first), reserved(second)) == (0, 4096)
    second.close()
    assert list(directory.iterdir()) == []


@pytest.mark.usefixtures("still", "unmapped")
def test_it_takes_its_reserve_when_the_disk_is_full(make, directory, monkeypatch, log):
    spool = make(reserve_bytes=4096)
    assert reserved(spool) == 4096
    spool.append(b"before\n")
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, {1}))
    spool.append(b"in the middle\n")
    assert spool.full
    assert reserved(spool) == 0
    spool.append(b"after\n")
    monkeypatch.undo()
    assert text_of(directory, ".open") == b"before\nin the middle\nafter\n"
    assert log.problems == ["spool_full"]


@pytest.mark.usefixtures("still", "unmapped")
def test_it_loses_a_line_whole_and_says_so(make, directory, monkeypatch, log):
    """Short writes are rolled back to the last newline: no half line stands before the next."""
    write = os.pwrite
    spool = make()
    spool.append(b"before\n")
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, {1, 2}))
    spool.append(b"in the middle\n")
    monkeypatch.setattr(os, "pwrite", write)
    spool.append(b"after\n")
    monkeypatch.undo()
    assert text_of(directory, ".open") == b"before\nafter\n"
    assert [line["line"] for line in log.of("spool_line_lost")] == ["in the middle\n"]


@pytest.mark.usefixtures("still", "unmapped")
def test_it_loses_a_line_whole_that_fits_in_part_only(make, directory, monkeypatch, log):
    """Even with the reserve gone there is room for some bytes, and the system reports them as written."""
    write, calls = os.pwrite, iter(range(1000))

    def half(descriptor, text, offset):
        number = next(calls)
        if number == 0:
            raise OSError(errno.ENOSPC, "no space")
        return write(descriptor, text[: len(text) // 2], offset)

    spool = make()
    monkeypatch.setattr(os, "pwrite", half)
    spool.append(b"in the middle\n")
    monkeypatch.setattr(os, "pwrite", write)
    spool.append(b"after\n")
    assert text_of(directory, ".open") == b"after\n"
    assert len(log.of("spool_line_lost")) == 1


@pytest.mark.usefixtures("still", "unmapped")
def test_it_builds_its_reserve_again_when_there_is_room(make, monkeypatch):
    spool = make(reserve_bytes=4096)
    monkeypatch.setattr(os, "pwrite", failing(os.pwrite, {0}))
    spool.append(b"line\n")
    monkeypatch.undo()
    assert spool.full
    spool._tick(spool._first_line_at)
    eventually(lambda: True)
    spool._tick(spool._first_line_at + 100)
    assert not spool.full
    assert reserved(spool) == 4096


def no_room(*_):
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.usefixtures("still")
def test_it_refuses_new_calls_from_the_start_when_the_disk_is_full(make, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    spool = make(reserve_bytes=4096)
    assert spool.full
    assert reserved(spool) == 0
    monkeypatch.undo()


@pytest.mark.usefixtures("still")
def test_it_stays_full_until_the_reserve_fits(make, monkeypatch):
    spool = make(reserve_bytes=4096)
    spool.full = True
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    spool._tick(1e6)
    assert spool.full
    monkeypatch.undo()
    spool._tick(1e6 + 4.9)
    assert spool.full
    spool._tick(1e6 + 5.0)
    assert not spool.full


def test_it_goes_on_after_trouble_in_its_thread(make, directory, monkeypatch, log):
    fsync, calls = os.fsync, []

    def once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    spool = make()
    spool.append(b"one\n")
    eventually(lambda: names(directory, ".seg"), what="a rotation")
    assert "spool_thread" in log.problems
    spool.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")
@pytest.mark.usefixtures("still")
def test_it_survives_a_disk_that_is_really_full(tmp_path, log):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        spool = Spool(disk, boot="boot", worker=0, reserve_bytes=128 << 10)
        written = 0
        while not spool.full:
            spool.append(b"x" * 4095 + b"\n")
            written += 1
        # The line that met the full disk, and many of calls still running, find room in the reserve.
        for _ in range(20):
            spool.append(b"y" * 4095 + b"\n")
        assert log.of("spool_line_lost") == []
        spool.close()
        text = text_of(disk, ".seg")
        assert text == (b"x" * 4095 + b"\n") * written + (b"y" * 4095 + b"\n") * 20
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ---------------------------------------------------------------- backlog


def test_it_tells_what_waits_for_the_shipper(tmp_path):
    (tmp_path / "a-0-1.seg").write_bytes(b"12345")
    (tmp_path / "a-0-2.seg").write_bytes(b"12")
    (tmp_path / "a-0-3.open").write_bytes(b"123")
    (tmp_path / "shipper.lock").write_bytes(b"123")
    assert backlog(tmp_path) == {"segments": 2, "bytes": 7}


def test_it_minds_no_segment_that_is_shipped_while_it_looks(tmp_path):
    (tmp_path / "gone.seg").symlink_to(tmp_path / "nowhere")
    assert backlog(tmp_path) == {"segments": 0, "bytes": 0}
