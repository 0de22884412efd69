"""Draws the transition table as a Mermaid state diagram: `python -m scheduler.core.diagram`."""

import re

from scheduler.core.model import TERMINAL, JobState
from scheduler.core.table import TABLE, always


def mermaid() -> str:
    """The diagram's text, one arrow per row."""
    lines = ["stateDiagram-v2"]
    for row in TABLE:
        label = _words(row.event.__name__)
        if row.guard is not always:
            label += f" [{row.guard.__name__.replace('_', ' ')}]"
        source = "[*]" if row.source is JobState.NEW else row.source
        lines.append(f"    {source} --> {row.target}: {label}")
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    return "\n".join(lines)


def _words(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r" \1", name).lower()


if __name__ == "__main__":
    print(mermaid())
