"""A mesh in one process: seeded chance decides what crashes, what is cut, delayed and doubled.

Runners keep their streams in the real runners.agent.outbox, jobs go by the real scheduler.core, time
is a number.
"""

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Any

from simulated_store import Gap, Outstanding, Store, Superseded

from runners.agent.outbox import Outbox
from scheduler.core.model import TERMINAL, AttemptState, Cause
from visionmesh.v1 import progress_pb2, result_pb2

LEASE, BEAT, SWEEP, NOTICE, ANSWER = 10.0, 1.0, 0.5, 3.0, 5.0
CALM_AFTER, LONGEST = 60.0, 400.0
EPOCHS = 4


class Violation(AssertionError):
    """A promise is broken."""


class Wire:
    """One stream between a runner and the scheduler: in order; what is on its way may come after a cut."""

    def __init__(self, mesh: "Mesh", runner: "Runner") -> None:
        self._mesh, self._runner = mesh, runner
        self._lives = (mesh.life, runner.life)
        self._last = [0.0, 0.0]
        self.is_cut = False

    def up(self, call: Callable[[], None]) -> None:
        """Carry something to the scheduler."""
        self._carry(0, lambda: self._lives[0] == self._mesh.life and self._mesh.is_up, call)

    def down(self, call: Callable[[], None]) -> None:
        """Carry something to the runner; it does not listen to a stream that it has given up."""
        self._carry(1, lambda: self._lives[1] == self._runner.life and not self.is_cut, call)

    def _carry(self, way: int, arrives: Callable[[], bool], call: Callable[[], None]) -> None:
        mesh = self._mesh
        # A stream that has lost something carries nothing more: what comes later must not overtake it.
        self.is_cut = self.is_cut or mesh.now < self._runner.parted_until
        if self.is_cut:
            return
        delay = mesh.chance.expovariate(20) + (mesh.chance.uniform(0, 8) if mesh.is_wild(0.02) else 0)
        self._last[way] = max(self._last[way], mesh.now + delay)
        times = 2 if way == 0 and mesh.is_wild(0.03) else 1
        for _ in range(times):
            mesh.at(self._last[way], lambda: call() if arrives() else None)


class Delivery:
    """One numbered stream of one attempt, on the runner's side."""

    def __init__(self, attempt: "Attempt", name: str) -> None:
        self._attempt, self._name = attempt, name
        self._mesh, self._runner = attempt.runner.mesh, attempt.runner
        self.outbox: Outbox[Any] = Outbox(batch_messages=3)
        self.made: list[Any] = []
        self._wire: Wire | None = None
        self._is_open = False
        self._heard = 0.0
        self.open()

    def put(self, message: Any) -> None:
        self.made.append(message)
        self.outbox.append(message)
        self._send()

    def open(self) -> None:
        """Open the stream anew."""
        if not self._attempt.is_alive:
            return
        if self._wire is not None:
            self._wire.is_cut = True
        self._is_open, self._heard = False, self._mesh.now
        wire = self._wire = Wire(self._mesh, self._runner)
        key = (*self._attempt.key, self._name)
        wire.up(lambda: self._mesh.answer(wire, self, lambda: self._mesh.store.committed(*key), self._resume))
        self._mesh.after(NOTICE, lambda: self._watch(wire))

    def _watch(self, wire: Wire) -> None:
        """Give a stream up that has said nothing for too long."""
        if wire is not self._wire or not self._attempt.is_alive:
            return
        waits = not self._is_open or not self.outbox.is_delivered
        if waits and self._mesh.now - self._heard >= NOTICE:
            self.open()
        else:
            self._mesh.after(NOTICE, lambda: self._watch(wire))

    def _resume(self, committed: int) -> None:
        self._heard = self._mesh.now
        self._is_open = True
        self.outbox.resume(committed)
        self._check()
        self._send()
        self._attempt.go_on()

    def _acknowledge(self, committed: int) -> None:
        self._heard = self._mesh.now
        self.outbox.acknowledge(committed)
        self._check()
        self._attempt.go_on()

    def _send(self) -> None:
        wire = self._wire
        while self._is_open and wire is not None and (batch := self.outbox.next_batch()) is not None:
            key, first, messages = (*self._attempt.key, self._name), batch.first_number, list(batch.messages)

            def take(key: Any = key, first: int = first, messages: Any = messages) -> int:
                return self._mesh.store.take(*key, first, messages, self._mesh.now)

            wire.up(lambda take=take, wire=wire: self._mesh.answer(wire, self, take, self._acknowledge))  # type: ignore[misc]

    def refused(self, error: Exception) -> None:
        """The scheduler has ended the stream."""
        if isinstance(error, Superseded):
            self._attempt.drop()
        else:
            if isinstance(error, Outstanding):
                self._attempt.results.open()
            self._is_open = False
            self._mesh.after(self._mesh.chance.uniform(0.01, 0.5), self.open)

    def _check(self) -> None:
        """P1: what is acknowledged is stored, once and in order."""
        stored = self._mesh.store.streams[(*self._attempt.key, self._name)]
        if stored[: self.outbox.acknowledged] != self.made[: self.outbox.acknowledged]:
            raise Violation(f"P1: {self._attempt.key} {self._name}: acknowledged is not what was sent")


class Attempt:
    """One attempt on a runner."""

    def __init__(self, runner: "Runner", key: tuple[str, int]) -> None:
        self.runner, self.key, self.is_alive = runner, key, True
        self.progress, self.results = Delivery(self, "progress"), Delivery(self, "results")
        self._epoch, self._is_done, self._has_ended = 0, False, False
        self.progress.put(progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=1)))
        self._later()

    def _later(self) -> None:
        mesh, life = self.runner.mesh, self.runner.life
        mesh.after(mesh.chance.uniform(0.1, 2), lambda: self._train() if life == self.runner.life else None)

    def _train(self) -> None:
        if not self.is_alive:
            return
        self._epoch += 1
        epoch = progress_pb2.EpochCompleted(epoch=self._epoch, total_epochs=EPOCHS)
        self.progress.put(progress_pb2.ProgressUpdate(epoch_completed=epoch))
        self.results.put(result_pb2.ResultItem(prediction=result_pb2.ImagePrediction(index=self._epoch)))
        self._is_done = self._epoch == EPOCHS
        self.go_on() if self._is_done else self._later()

    def go_on(self) -> None:
        """End when all results are acknowledged; be gone when the end is."""
        if self._is_done and not self._has_ended and self.results.outbox.is_delivered:
            self._has_ended = True
            ended = progress_pb2.AttemptEnded(outcome=5, results_number=self.results.outbox.last_number)
            self.progress.put(progress_pb2.ProgressUpdate(attempt_ended=ended))
        if self._has_ended and self.progress.outbox.is_delivered:
            self.drop()

    def drop(self) -> None:
        self.is_alive = False
        self.runner.attempts.pop(self.key, None)


class Runner:
    """One runner with one slot."""

    def __init__(self, mesh: "Mesh", name: str) -> None:
        self.mesh, self.name = mesh, name
        self.life, self.parted_until = 0, 0.0
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.connect()

    def connect(self) -> None:
        """Open a control stream and register."""
        wire, life = Wire(self.mesh, self), self.life
        self._wire, self._heard = wire, self.mesh.now
        wire.up(lambda: self.mesh.register(self, wire, list(self.attempts)))
        self.mesh.after(BEAT, lambda: self._beat(wire, life))

    def _beat(self, wire: Wire, life: int) -> None:
        if life != self.life or wire is not self._wire:
            return
        if self.mesh.now - self._heard >= NOTICE:
            wire.is_cut = True
            self.connect()
            return
        wire.up(lambda: self.mesh.beat(self, wire, list(self.attempts)))
        self.mesh.after(BEAT, lambda: self._beat(wire, life))

    def heard(self, kill: list[tuple[str, int]]) -> None:
        """The scheduler knows us; some attempts are not ours."""
        self._heard = self.mesh.now
        for key in kill:
            if key in self.attempts:
                self.attempts[key].drop()

    def assigned(self, wire: Wire, key: tuple[str, int]) -> None:
        if key not in self.attempts and self.attempts:
            return  # no slot: the scheduler takes it back
        if key not in self.attempts:
            self.attempts[key] = Attempt(self, key)
        wire.up(lambda: self.mesh.store.accept(*key, self.name, self.mesh.now))

    def crash(self) -> None:
        """Die, and be started again after a while."""
        self.life += 1
        for attempt in list(self.attempts.values()):
            attempt.drop()
        self._wire.is_cut = True
        self.mesh.after(self.mesh.chance.uniform(0.5, 15), self.connect)


class Mesh:
    """The scheduler, its runners, and what befalls them."""

    def __init__(self, seed: int, jobs: int = 4, runners: int = 3) -> None:
        self.chance, self.now, self.life, self.is_up = Random(seed), 0.0, 0, True  # noqa: S311
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.store = Store(jobs)
        self.faults: list[str] = []
        self.runners = [Runner(self, f"runners/{index}") for index in range(runners)]
        self.after(SWEEP, self._sweep)
        self.after(self.chance.uniform(1, 8), self._break_something)

    def at(self, time: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), call))

    def after(self, delay: float, call: Callable[[], None]) -> None:
        self.at(self.now + delay, call)

    def is_wild(self, share: float) -> bool:
        """Whether something rare happens now; after a while nothing does, so that jobs can end."""
        return self.now < CALM_AFTER and self.chance.random() < share

    def run(self) -> None:
        """Run until every job has ended. Raises Violation."""
        while not all(job.state in TERMINAL for job in self.store.jobs.values()):
            self.now, _, call = heapq.heappop(self._queue)
            if self.now > LONGEST:
                raise Violation(f"P5: jobs have not ended after {LONGEST} s: {self.store.jobs}")
            call()
        until = self.now + 2 * LEASE  # what is under way yet must not change anything
        while self.now < until:
            self.now, _, call = heapq.heappop(self._queue)
            call()

    def answer(
        self, wire: Wire, stream: Delivery, ask: Callable[[], int], hear: Callable[[int], None]
    ) -> None:
        """The scheduler's answer on a numbered stream: it may die after the commit, before it answers."""
        try:
            number = ask()
        except (Superseded, Gap, Outstanding) as error:
            refused = error
            wire.down(lambda: stream.refused(refused))
        else:
            if self.is_wild(0.004):
                self._crash_scheduler()
            wire.down(lambda: hear(number))

    def register(self, runner: Runner, wire: Wire, named: list[tuple[str, int]]) -> None:
        """A runner is there; attempts that it does not name are lost at once."""
        for job, known in self.store.jobs.items():
            if known.live and self.store.holders[job] == runner.name and (job, known.attempt) not in named:
                self.store.lose(job, Cause.RUNNER_LOST, self.now)
        self.beat(runner, wire, named)

    def beat(self, runner: Runner, wire: Wire, named: list[tuple[str, int]]) -> None:
        self.store.leases[runner.name] = self.now + LEASE
        kill = [key for key in named if not self.store.is_live(*key, runner.name)]
        wire.down(lambda: runner.heard(kill))
        key = self.store.claim(runner.name, self.now)
        if key is not None:
            wire.down(lambda: runner.assigned(wire, key))
            self.after(ANSWER, lambda: self._take_back(key))

    def _take_back(self, key: tuple[str, int]) -> None:
        known = self.store.jobs[key[0]]
        if known.attempt == key[1] and known.attempt_state is AttemptState.ASSIGNED:
            self.store.lose(key[0], Cause.NOT_ACCEPTED, self.now)

    def _sweep(self) -> None:
        if self.is_up:
            self.store.sweep(self.now)
        self.after(SWEEP, self._sweep)

    def _crash_scheduler(self) -> None:
        self.faults.append(f"{self.now:.2f} scheduler")
        self.is_up = False
        self.after(self.chance.uniform(0.1, 5), self._start_scheduler)

    def _start_scheduler(self) -> None:
        self.life, self.is_up = self.life + 1, True  # streams that were begun before do not live on
        for name in self.store.leases:  # grace: nobody could be heard meanwhile
            self.store.leases[name] = self.now + LEASE

    def _break_something(self) -> None:
        if self.now > CALM_AFTER:
            return
        runner = self.chance.choice(self.runners)
        match self.chance.choice(["runner", "scheduler", "part", "part"]):
            case "runner":
                self.faults.append(f"{self.now:.2f} {runner.name}")
                runner.crash()
            case "scheduler" if self.is_up:
                self._crash_scheduler()
            case "part":
                self.faults.append(f"{self.now:.2f} {runner.name} parted")
                runner.parted_until = self.now + self.chance.choice([1, 5, 2 * LEASE])
        self.after(self.chance.uniform(1, 8), self._break_something)
