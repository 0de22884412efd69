"""How a command's options are declared: as dataclasses, shared by the commands that have them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from visionmesh.cli import _completion

JobArgument = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The job: jobs/x, or just x.",
        show_default=False,
        autocompletion=_completion.jobs,
    ),
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB...",
        help="Jobs: jobs/x, or just x.",
        show_default=False,
        autocompletion=_completion.jobs,
    ),
]
RunnerArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUNNER",
        help="The runner: runners/x, or just x.",
        show_default=False,
        autocompletion=_completion.runners,
    ),
]


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="table for people; json or jsonl (one object a line) for programs."),
]


@dataclass(frozen=True)
class MeshOptions:
    """Which mesh is called."""

    address: Annotated[
        str,
        typer.Option(
            envvar="VISIONMESH_ADDRESS",
            help="Where the mesh is, host:port.",
            show_default="127.0.0.1:50051",
            rich_help_panel="Mesh",
        ),
    ] = ""

    @property
    def flag(self) -> str:
        """What completes a command line for this mesh: " --address …", or nothing."""
        return f" --address {self.address}" if self.address else ""


def command(
    app: typer.Typer,
    function: Callable[..., None],
    *examples: str,
    name: str | None = None,
    panel: str | None = None,
) -> None:
    """Make `function` a command; each parameter that is a dataclass stands for its fields.

    Each of `examples` is shown by --help, and run as it is by a test.
    """
    title = "Example:" if len(examples) == 1 else "Examples:"
    epilog = "\n\n".join([title, *examples])
    app.command(name, epilog=epilog, rich_help_panel=panel)(flattened(function))


def group(app: typer.Typer, name: str, about: str, panel: str | None = None) -> typer.Typer:
    """A command with commands of its own."""
    made = typer.Typer(name=name, help=about, no_args_is_help=True)
    app.add_typer(made, rich_help_panel=panel)
    return made


def flattened(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, taking the fields of its dataclass parameters as parameters of their own."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, tuple[type, tuple[str, ...]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind) and isinstance(kind, type):
            group = [_parameter(field, kind) for field in fields(kind)]
            groups[parameter.name] = (kind, tuple(member.name for member in group))
            parameters += group
        else:
            parameters.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(function)
    def call(**given: Any) -> None:
        for name, (kind, members) in groups.items():
            given[name] = kind(**{member: given.pop(member) for member in members})
        function(**given)

    # Typer reads both; without __wrapped__ it cannot see the function underneath.
    del call.__wrapped__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameter(field: Field[Any], owner: type) -> inspect.Parameter:
    default: Any = inspect.Parameter.empty
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    annotation = get_type_hints(owner, include_extras=True)[field.name]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
