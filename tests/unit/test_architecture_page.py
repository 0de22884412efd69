"""The state diagram in the documentation is the transition table's."""

from pathlib import Path

from scheduler.core.diagram import mermaid

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_diagram_in_the_documentation_is_drawn_from_the_table() -> None:
    assert mermaid() in PAGE.read_text(), "put the output of `python -m scheduler.core.diagram` into the page"
