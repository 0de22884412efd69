"""How fast things go by over the last moments."""

from collections import deque

_WINDOW_SECONDS = 3.0


class Rate:
    """Counts things and divides by the time they took, over the last three seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._count = 0

    def restart(self, now: float) -> None:
        """Forget what was, and begin to count at `now`, in seconds of a monotonic clock."""
        self._marks.clear()
        self._marks.append((now, 0))
        self._count = 0

    def add(self, count: int) -> None:
        """`count` more went by."""
        self._count += count

    def per_second(self, now: float) -> float:
        """Things per second; 0 if no time has passed."""
        self._marks.append((now, self._count))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0]
        return (self._count - before) / (now - since) if now > since else 0.0
