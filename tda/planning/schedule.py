r"""A schedule in simulated time: jobs with an order between them, on machines that fail.

List scheduling: whenever a machine is free it takes, of the tasks whose predecessors are done, the
one with the longest way to the end. A task begins with an overhead, then does its units one after
the other. How fast it is there is a lognormal factor with mean 1. A machine fails after an
exponential time at work; finished units are kept, the task goes back to the queue, the machine is
away for its repair. So a unit of length d is tried a geometric number of times, at failure rate r:

.. math:: E[\text{failures}] = e^{rd} - 1, \qquad E[\text{time at work}] = (e^{rd} - 1) / r.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tda.errors import UserError


@dataclass(frozen=True)
class Task:
    """Something that one machine does.

    Attributes:
        units: how many pieces it has, each of which is kept once it is done.
        unit_s: seconds of a piece, on a machine of mean speed.
        after: places of the tasks in the list that must be done before.
    """

    units: int
    unit_s: float
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cluster:
    """Machines, each of which does one task at a time.

    Attributes:
        machines: how many.
        overhead_s: of every attempt of a task, before its first unit: start, loading, queue.
        spread: standard deviation of the logarithm of a unit's duration on the machine and
            attempt it got; 0: all alike.
        failures_per_s: of a machine at work.
        repair_s: that a machine is away after a failure.
    """

    machines: int
    overhead_s: float = 0.0
    spread: float = 0.0
    failures_per_s: float = 0.0
    repair_s: float = 0.0


@dataclass
class Outcome:
    """What came of it, in seconds of one machine but for ``makespan_s``.

    Attributes:
        makespan_s: until the last task was done.
        useful_s: spent on units that were finished.
        overhead_s: spent on beginning.
        lost_s: spent on units that a failure ended.
        failures: of machines at work.
    """

    makespan_s: float = 0.0
    useful_s: float = 0.0
    overhead_s: float = 0.0
    lost_s: float = 0.0
    failures: int = 0

    def utilisation(self, machines: int) -> float:
        """Share of the machines' time until the end that went into finished units."""
        return self.useful_s / (machines * self.makespan_s) if self.makespan_s else 1.0


def simulate(tasks: Sequence[Task], cluster: Cluster, seed: int = 0) -> Outcome:
    """One random schedule.

    Args:
        tasks: in any order; ``after`` must have no cycle.
        cluster: the machines.
        seed: of stragglers and failures.

    Raises:
        UserError: no machine, a task without units, or tasks that wait for each other.
    """
    if cluster.machines < 1 or any(task.units < 1 for task in tasks):
        raise UserError(
            f"machines={cluster.machines}: at least one is needed, and one unit in every task"
        )
    return _Run(tasks, cluster, np.random.default_rng(seed)).outcome()


def lengths_to_end(tasks: Sequence[Task]) -> list[float]:
    """Seconds of the longest chain of tasks that begins with each one.

    Raises:
        UserError: tasks wait for each other.
    """
    followers, waiting = _followers(tasks), [len(task.after) for task in tasks]
    order = [place for place, number in enumerate(waiting) if not number]
    for place in order:  # grows
        for follower in followers[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                order.append(follower)
    if len(order) < len(tasks):
        raise UserError("tasks wait for each other: their order has a cycle")
    length = [0.0] * len(tasks)
    for place in reversed(order):
        rest = max((length[follower] for follower in followers[place]), default=0.0)
        length[place] = tasks[place].units * tasks[place].unit_s + rest
    return length


def _followers(tasks: Sequence[Task]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in tasks]
    for place, task in enumerate(tasks):
        for before in task.after:
            found[before].append(place)
    return found


@dataclass
class _Run:
    """The state of one simulation: who waits, who works until when, which machines are free."""

    tasks: Sequence[Task]
    cluster: Cluster
    rng: np.random.Generator
    now: float = 0.0
    found: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        self.urgency = lengths_to_end(self.tasks)
        self.followers = _followers(self.tasks)
        self.waiting_for = [len(task.after) for task in self.tasks]
        self.left = [task.units for task in self.tasks]
        self.free = self.cluster.machines
        self.ready: list[tuple[float, int]] = []
        self.events: list[tuple[float, int, int | None]] = []  # when, number, task (None: repaired)
        self.numbered = 0
        for place, number in enumerate(self.waiting_for):
            if not number:
                heapq.heappush(self.ready, (-self.urgency[place], place))

    def outcome(self) -> Outcome:
        """Go from event to event until nothing is left."""
        self._start()
        while self.events:
            self.now, _, place = heapq.heappop(self.events)
            if place is None:
                self.free += 1
            else:
                self._leave(place)
            self._start()
        return self.found

    def _start(self) -> None:
        """Give free machines to the most urgent tasks."""
        while self.free and self.ready:
            _, place = heapq.heappop(self.ready)
            self.free -= 1
            self._at(self.now + self._attempt(place), place)

    def _attempt(self, place: int) -> float:
        """Seconds until the task is done or its machine fails; what is done by then is booked."""
        spread, rate, found = self.cluster.spread, self.cluster.failures_per_s, self.found
        factor = float(np.exp(spread * self.rng.standard_normal() - spread**2 / 2)) if spread else 1
        unit_s, overhead_s = self.tasks[place].unit_s * factor, self.cluster.overhead_s
        needed_s = overhead_s + self.left[place] * unit_s
        fails_s = self.rng.exponential(1 / rate) if rate else np.inf
        if fails_s >= needed_s:
            found.overhead_s += overhead_s
            found.useful_s += needed_s - overhead_s
            self.left[place] = 0
            return needed_s
        at_work_s = max(0.0, fails_s - overhead_s)
        done = min(int(at_work_s / unit_s), self.left[place] - 1) if unit_s else 0
        found.overhead_s += min(fails_s, overhead_s)
        found.useful_s += done * unit_s
        found.lost_s += at_work_s - done * unit_s
        found.failures += 1
        self.left[place] -= done
        return fails_s

    def _leave(self, place: int) -> None:
        """A machine has ended with a task, or failed."""
        if self.left[place]:
            heapq.heappush(self.ready, (-self.urgency[place], place))
            self._at(self.now + self.cluster.repair_s, None)
            return
        self.free += 1
        self.found.makespan_s = self.now
        for follower in self.followers[place]:
            self.waiting_for[follower] -= 1
            if not self.waiting_for[follower]:
                heapq.heappush(self.ready, (-self.urgency[follower], follower))

    def _at(self, when: float, place: int | None) -> None:
        self.numbered += 1
        heapq.heappush(self.events, (when, self.numbered, place))
