"""An outbox delivers each message once and in order, however streams are cut and set back."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from runners.agent.outbox import Outbox, OutOfStep
from visionmesh.v1 import progress_pb2


def line(text: str) -> progress_pb2.ProgressUpdate:
    return progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message=text))


def filled(count: int, **limits: int) -> Outbox[progress_pb2.ProgressUpdate]:
    outbox: Outbox[progress_pb2.ProgressUpdate] = Outbox(**limits)
    for number in range(1, count + 1):
        assert outbox.append(line(str(number))) == number
    return outbox


def numbers(outbox: Outbox[progress_pb2.ProgressUpdate]) -> list[int]:
    """Everything that is to be sent, batch by batch, checked against its numbers."""
    sent: list[int] = []
    while (batch := outbox.next_batch()) is not None:
        texts = [int(message.log_line.message) for message in batch.messages]
        assert texts == list(range(batch.first_number, batch.first_number + len(texts)))
        sent += texts
    return sent


def test_batches_hold_at_most_so_many_messages():
    outbox = filled(5, batch_messages=2)
    first, second, third = (outbox.next_batch() for _ in range(3))
    assert [len(batch.messages) for batch in (first, second, third)] == [2, 2, 1]
    assert [batch.first_number for batch in (first, second, third)] == [1, 3, 5]
    assert outbox.next_batch() is None


def test_a_careful_outbox_sends_one_by_one_until_it_is_past_what_was_refused():
    outbox = filled(5, batch_messages=3)
    outbox.next_batch()
    outbox.be_careful()
    outbox.resume(0)
    for number in (1, 2, 3):
        batch = outbox.next_batch()
        assert (batch.first_number, len(batch.messages)) == (number, 1)
        assert outbox.next_batch() is None  # until that one is acknowledged
        outbox.acknowledge(number)
    assert len(outbox.next_batch().messages) == 2


def test_what_gives_way_keeps_its_number_and_its_place():
    outbox = filled(3)
    outbox.next_batch()
    outbox.acknowledge(1)
    outbox.be_careful()
    outbox.replace_first(lambda _: line("smaller"))
    outbox.resume(1)
    batch = outbox.next_batch()
    assert (batch.first_number, batch.messages[0].log_line.message) == (2, "smaller")
    outbox.acknowledge(2)
    outbox.next_batch()
    outbox.acknowledge(3)
    assert outbox.waiting_bytes == 0


def test_batches_hold_at_most_so_many_bytes_but_never_nothing():
    outbox = filled(2, batch_bytes=1)
    assert len(outbox.next_batch().messages) == 1
    assert len(outbox.next_batch().messages) == 1


def test_after_a_cut_what_is_not_acknowledged_is_sent_again():
    outbox = filled(5)
    assert numbers(outbox) == [1, 2, 3, 4, 5]
    assert outbox.acknowledge(2)
    outbox.resume(3)
    assert numbers(outbox) == [4, 5]


def test_the_scheduler_may_go_back_behind_its_own_acknowledgement():
    outbox = filled(5)
    numbers(outbox)
    outbox.acknowledge(5)
    assert outbox.is_delivered
    assert outbox.waiting_bytes == 0
    outbox.resume(1)
    assert not outbox.is_delivered
    assert numbers(outbox) == [2, 3, 4, 5]


def test_an_old_acknowledgement_changes_nothing():
    outbox = filled(3)
    numbers(outbox)
    outbox.acknowledge(3)
    assert not outbox.acknowledge(2)
    assert outbox.acknowledged == 3


def test_what_was_never_sent_cannot_be_acknowledged():
    outbox = filled(3, batch_messages=1)
    outbox.next_batch()
    with pytest.raises(OutOfStep, match="2 was acknowledged"):
        outbox.acknowledge(2)


def test_a_scheduler_that_has_more_than_was_made_is_out_of_step():
    with pytest.raises(OutOfStep, match="has message 4"):
        filled(3).resume(4)


def test_history_is_bounded_and_its_end_is_told():
    outbox = filled(100, history_bytes=0)
    numbers(outbox)
    outbox.acknowledge(60)
    with pytest.raises(OutOfStep, match="kept is only from 61"):
        outbox.resume(59)
    outbox.resume(60)
    assert numbers(outbox) == list(range(61, 101))


class Delivery(RuleBasedStateMachine):
    """A scheduler that stores, forgets to acknowledge, cuts, and comes back with less."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.outbox: Outbox[progress_pb2.ProgressUpdate] = Outbox(batch_messages=3)
        self.stored: list[int] = []
        self.connected = False

    @rule(count=st.integers(1, 7))
    def happen(self, count: int) -> None:
        for _ in range(count):
            self.outbox.append(line(str(self.outbox.last_number + 1)))

    @rule(lost=st.integers(0, 5))
    def connect(self, lost: int) -> None:
        del self.stored[max(0, len(self.stored) - lost) :]  # a lagging replica took over
        self.outbox.resume(len(self.stored))
        self.connected = True

    @precondition(lambda self: self.connected)
    @rule(arrives=st.booleans(), answered=st.booleans())
    def send(self, arrives: bool, answered: bool) -> None:
        batch = self.outbox.next_batch()
        if batch is None:
            return
        if not arrives:
            self.connected = False
            return
        assert batch.first_number == len(self.stored) + 1, "a gap or a repetition on an open stream"
        self.stored += [int(message.log_line.message) for message in batch.messages]
        if answered:
            self.outbox.acknowledge(len(self.stored))

    @invariant()
    def everything_is_stored_once_and_in_order(self) -> None:
        assert self.stored == list(range(1, len(self.stored) + 1))

    @invariant()
    def nothing_is_acknowledged_that_was_not_stored(self) -> None:
        # What a replica lost is corrected at the next connect.
        assert not self.connected or self.outbox.acknowledged <= len(self.stored)

    @invariant()
    def waiting_bytes_are_those_of_what_is_not_acknowledged(self) -> None:
        unacknowledged = range(self.outbox.acknowledged + 1, self.outbox.last_number + 1)
        assert self.outbox.waiting_bytes == sum(line(str(number)).ByteSize() for number in unacknowledged)

    def teardown(self) -> None:
        """In the end everything can be delivered."""
        self.outbox.resume(len(self.stored))
        self.stored += numbers(self.outbox)
        self.outbox.acknowledge(self.outbox.last_number)
        assert self.stored == list(range(1, self.outbox.last_number + 1))
        assert self.outbox.is_delivered


TestDelivery = Delivery.TestCase
