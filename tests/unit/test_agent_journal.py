"""A journal gives back what it was given, or the beginning of it; never anything else."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.agent.journal import Identity, Journal, identities
from runners.agent.kept import OnDisk
from runners.agent.outbox import Outbox
from visionmesh.v1 import progress_pb2

MINE = Identity("jobs/j", 2, "progress")


def written(folder: Path, payloads: list[bytes], segment_bytes: int = 1 << 20) -> list[Path]:
    journal = Journal(folder, MINE, segment_bytes)
    for number, payload in enumerate(payloads, 1):
        journal.append(number, payload)
    journal.close()
    return sorted(folder.iterdir())


def recovered(folder: Path) -> list[bytes]:
    journal = Journal(folder, MINE)
    records = journal.recover()
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    return [journal.read(record.place) for record in records]


def line(text: str) -> progress_pb2.ProgressUpdate:
    return progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message=text))


def on_disk(folder: Path, **limits: int) -> "tuple[Journal, OnDisk[progress_pb2.ProgressUpdate]]":
    journal = Journal(folder, MINE, **limits)
    return journal, OnDisk(journal, progress_pb2.ProgressUpdate, window_bytes=100)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_torn_at_every_byte_the_valid_prefix_is_recovered(payloads: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        (segment,) = written(Path(folder), payloads)
        whole = segment.read_bytes()
        for end in range(len(whole) + 1):
            segment.write_bytes(whole[:end])
            found = recovered(Path(folder))
            assert found == payloads[: len(found)]
        assert found == payloads


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5), st.integers(1, 255))
def test_with_any_one_byte_changed_a_prefix_is_recovered(payloads: list[bytes], change: int) -> None:
    with TemporaryDirectory() as folder:
        (segment,) = written(Path(folder), payloads)
        whole = segment.read_bytes()
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= change
            segment.write_bytes(changed)
            found = recovered(Path(folder))
            assert found == payloads[: len(found)]
            assert len(found) < len(payloads)


def test_behind_a_damaged_segment_nothing_is_believed(tmp_path: Path) -> None:
    payloads = [bytes([number]) * 50 for number in range(9)]
    segments = written(tmp_path, payloads, segment_bytes=200)
    assert len(segments) > 2
    segments[1].write_bytes(segments[1].read_bytes()[:-1])
    found = recovered(tmp_path)
    assert found == payloads[: len(found)]
    assert 0 < len(found) < len(payloads)
    assert recovered(tmp_path) == found  # what was cut off stays away


@pytest.mark.parametrize("other", [Identity("jobs/k", 2, "progress"), Identity("jobs/j", 1, "progress")])
def test_another_attempts_journal_is_not_taken(tmp_path: Path, other: Identity) -> None:
    written(tmp_path, [b"mine"])
    assert identities(tmp_path) == [MINE]
    assert Journal(tmp_path, other).recover() == []


def test_segments_go_when_nothing_in_them_is_wanted(tmp_path: Path) -> None:
    journal = Journal(tmp_path, MINE, segment_bytes=300)
    for number in range(1, 101):
        journal.append(number, b"x" * 100)
    many = len(list(tmp_path.iterdir()))
    journal.forget_before(96)
    few = len(list(tmp_path.iterdir()))
    journal.close()
    assert many > 30
    assert few <= 4


def test_the_next_agent_sends_what_is_left_and_goes_on_counting(tmp_path: Path) -> None:
    journal, kept = on_disk(tmp_path)
    outbox = Outbox(kept=kept)
    for number in range(1, 31):
        outbox.append(line(str(number)))
    outbox.next_batch()
    outbox.acknowledge(10)
    journal.close()

    journal, kept = on_disk(tmp_path)
    outbox = Outbox(kept=kept)
    outbox.take_over(kept.recover())
    outbox.resume(7)  # the database went back as well
    assert outbox.append(line("31")) == 31
    batch = outbox.next_batch()
    assert batch is not None
    assert batch.first_number == 8
    assert [m.log_line.message for m in batch.messages] == [str(n) for n in range(8, 32)]
    journal.close()


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20])
def test_what_gave_way_gave_way_on_disk_too(tmp_path: Path, segment_bytes: int) -> None:
    journal, kept = on_disk(tmp_path, segment_bytes=segment_bytes)
    outbox = Outbox(kept=kept)
    for text in ("large", "second", "third"):
        outbox.append(line(text))
    outbox.next_batch()
    outbox.be_careful()
    outbox.replace_first(lambda _: line("small"))
    outbox.append(line("fourth"))
    journal.close()
    journal, kept = on_disk(tmp_path)
    assert sorted(kept.recover()) == [1, 2, 3, 4]
    texts = [kept.get(number).log_line.message for number in (1, 2, 3, 4)]
    assert texts == ["small", "second", "third", "fourth"]
    journal.close()
