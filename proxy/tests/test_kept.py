import stat

import pytest

from config.vault import Vault
from proxy.kept import PIECE, keep, recall

VAULT = Vault(["a key"])
PARTS = {
    "providers": [{"name": "openai", "credential": "enc:token"}],
    "routes": [],
    "prices": [{"id": 1}] * 1200,
}


def keys(count):
    return [{"id": number, "digest": f"{number:064x}"} for number in range(count)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "snapshot-0.kept"


def written(path, count=3, vault=VAULT):
    keep(path, vault, version=7, parts=PARTS, keys=iter(keys(count)))
    return path


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2 * PIECE])
def test_it_recalls_what_it_kept(path, count):
    assert recall(written(path, count), VAULT) == (7, {**PARTS, "keys": keys(count)})


def test_it_is_for_nobody_elses_eyes(path):
    written(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert b"openai" not in content
    assert b"enc:" not in content


def test_it_replaces_the_old_one_and_leaves_nothing_behind(path):
    written(path, 3)
    written(path, 4)
    recalled = recall(path, VAULT)
    assert recalled is not None
    assert len(recalled[1]["keys"]) == 4
    assert list(path.parent.iterdir()) == [path]


def test_it_recalls_nothing_where_nothing_is(path):
    assert recall(path, VAULT) is None
    path.mkdir()
    assert recall(path, VAULT) is None


def test_it_refuses_a_file_cut_anywhere(path):
    content = written(path, 600).read_bytes()
    line_ends = [place + 1 for place, byte in enumerate(content) if byte == 0x0A]
    # After each whole line but the last, and in the middle of each.
    for place in [0, *line_ends[:-1], *[end - 50 for end in line_ends]]:
        path.write_bytes(content[:place])
        assert recall(path, VAULT) is None, place


def test_it_refuses_a_file_with_a_line_changed(path):
    content = bytearray(written(path).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert recall(path, VAULT) is None


def test_it_refuses_another_key(path):
    assert recall(written(path), Vault(["another key"])) is None


def test_it_opens_under_a_rotated_key(path):
    assert recall(written(path), Vault(["new key", "a key"])) is not None


def test_it_refuses_another_format(path, monkeypatch):
    monkeypatch.setattr("proxy.kept.FORMAT", 0)
    written(path)
    monkeypatch.undo()
    assert recall(path, VAULT) is None


@pytest.mark.parametrize("content", [b"", b"\n\n", b"garbage\n", b"\xff\xfe"])
def test_it_refuses_garbage(path, content):
    path.write_bytes(content)
    assert recall(path, VAULT) is None
