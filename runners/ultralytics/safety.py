"""Looks through a checkpoint before it is opened, and executes nothing of it.

A .pt file is a program for a small machine (pickle) that builds objects. torch's restricted loader keeps to
classes that it was told of, but it calls them as the file says: a layer whose constructor downloads is
made with the file's own arguments, and a method can be replaced by whatever is at hand. So the program is
first run here on stand-ins, which do nothing and only remember what was asked of them. It may

- make layers and losses without calling their constructors, and give them their values,
- make numbers, tensors, paths and settings, as torch and numpy write them,
- take a layer's `forward` for its value, as ultralytics does.

Anything else is refused, with the name of what was asked for.
"""

import importlib
import inspect
import io
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from google.rpc import code_pb2
from torch import _weights_only_unpickler as restricted
from torch import nn

from runners.process.errors import UserError
from runners.pytorch.archives import refuse_compressed

_LAYER_MODULE = re.compile(
    r"torch\.nn\.modules(\.\w+)?|ultralytics\.nn\.modules(\.\w+)?|ultralytics\.nn\.(tasks|distill_model)"
    r"|ultralytics\.utils\.(loss|tal)|torchvision\.transforms\.transforms"
)
# Names of old versions, which ultralytics itself replaces.
_RENAMED = frozenset(
    {
        "ultralytics.nn.modules.block.Silence",
        "ultralytics.nn.tasks.YOLOv10DetectionModel",
        "ultralytics.utils.loss.v10DetectLoss",
    }
)
# Called with plain values; each only makes a value.
_VALUES = frozenset(
    {
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "torchvision.transforms.functional.InterpolationMode",
        "ultralytics.utils.IterableSimpleNamespace",
        "ultralytics.yolo.utils.IterableSimpleNamespace",
    }
)
_GETATTR = "builtins.getattr"
_TAKEN = frozenset({"forward", "forward_fuse", "NEAREST", "BILINEAR", "BICUBIC"})
_TAKEN_AS = frozenset({"forward", "detect", "interpolation"})
"""Attributes of a layer whose value may be taken from another."""

# Values that nobody can call: ultralytics itself calls an attribute "type", as a method of torch's is called.
_PLAIN = str | int | float | bytes | None

_ACTIVATION = re.compile(r"(torch\.)?nn\.\w+\([\w\s.,=+-]*\)")

# Layers whose construction loads files; a model's own description would have them constructed.
_LOADING_LAYERS = frozenset({"TorchVision"})


class Refused(Exception):
    """The file asks for what could do harm; says what."""


class _Name:
    """Stands for a class or function that the file names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_layer = name not in _VALUES and name not in _torch_names() and name != _GETATTR


class _Taken:
    """Stands for an attribute that the file takes from something."""


class _Made:
    """Stands for an object that the file makes."""

    def __init__(self, kind: _Name) -> None:
        self.kind = kind
        self.state: list[Any] = []


class _Rehearsal(pickle._Unpickler):
    """Runs a pickle on stand-ins. Raises Refused."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    readline: Any
    stack: list[Any]
    append: Any

    def __init__(self, file: Any, *, with_layers: bool) -> None:
        super().__init__(file, encoding="bytes")
        self.made: list[_Made] = []
        self._with_layers = with_layers

    def load_global(self) -> None:
        module, name = restricted._read_global_instruction(self.readline)
        full = f"{module}.{name}"
        if full not in _torch_names() and not (self._with_layers and _is_known(module, full)):
            raise Refused(f"it refers to {full}, so loading it could execute code")
        self.append(_Name(full))

    def find_class(self, module: str, name: str) -> Any:
        """Nothing that torch reads asks for a class in another way."""
        raise Refused(f"it refers to {module}.{name} in an unusual way")

    def persistent_load(self, pid: Any) -> Any:
        """Bytes of a tensor."""
        return _Made(_Name("torch.UntypedStorage"))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name):
            raise Refused("it calls what another call returned, so loading it could execute code")
        if function.name == _GETATTR:
            return _take(arguments)
        if function.is_layer:
            raise Refused(
                f"it calls {function.name} with values of its own, so loading it could execute code"
            )
        _refuse_code(arguments, function.name)
        if function.name == "collections.OrderedDict":
            return {}
        made = _Made(function)
        made.state.append(arguments)
        return made

    def load_newobj(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, _Name) or not kind.is_layer or arguments != ():
            raise Refused(f"it makes {_told(kind)} in an unusual way, so loading it could execute code")
        self.made.append(_Made(kind))
        self.append(self.made[-1])

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Made):
            target.state.append(state)
        elif not isinstance(target, dict):
            raise Refused(f"it sets attributes of {_told(target)}, so loading it could execute code")

    dispatch[pickle.GLOBAL[0]] = load_global
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def refuse_unsafe(path: Path, *, with_layers: bool = True) -> None:
    """Raise UserError if the file could do anything but give layers and numbers. Executes nothing of it.

    Without `with_layers` it may hold tensors by name only: for what torch's full loader reads afterwards,
    as ultralytics does with SAM.
    """
    try:
        refuse_compressed(path)
        with torch.serialization._open_file_like(str(path), "rb") as file:
            # Also refuses what is no archive of torch.save, and instructions that torch does not know.
            torch.serialization.get_unsafe_globals_in_checkpoint(file)
            file.seek(0)
            with torch.serialization._open_zipfile_reader(file) as archive:
                _rehearse(archive.get_record("data.pkl"), with_layers=with_layers)
    except Refused as refused:
        raise unusable(path, str(refused)) from refused
    except Exception as error:  # the file can be anything, and so can the way it fails
        raise unusable(path, f"{type(error).__name__}: {error}") from error


def unusable(path: Path, why: str) -> UserError:
    """What to say of a file that cannot be used."""
    first = why.strip().splitlines()[0] if why.strip() else "no reason given"
    return UserError(
        f"{path.name} is not a checkpoint that can be used here: {first}. "
        "Use a .pt file that ultralytics or a training of this mesh has written.",
        code=code_pb2.FAILED_PRECONDITION,
    )


def _rehearse(program: bytes, *, with_layers: bool) -> None:
    rehearsal = _Rehearsal(io.BytesIO(program), with_layers=with_layers)
    content = rehearsal.load()
    if isinstance(content, dict) and content.get("modelopt"):
        raise Refused("it was quantised by modelopt, which restores it by code of its own")
    _refuse_code(content, "the file")
    for layer in rehearsal.made:
        for state in layer.state:
            _check_state(layer.kind, state)


def _check_state(kind: _Name, state: Any) -> None:
    """Refuse what puts code where a layer has a method, or hooks."""
    parts = state if isinstance(state, tuple) else (state,)
    if not all(part is None or isinstance(part, dict) for part in parts):
        raise Refused(f"the values of {kind.name} are no values by name")
    methods = _methods(kind.name)
    for name, value in ((name, value) for part in parts if part for name, value in part.items()):
        taken = isinstance(value, _Taken) and name in _TAKEN_AS
        if name in methods and not taken and not isinstance(value, _PLAIN):
            raise Refused(f"it replaces {kind.name}.{name}, so using it could execute code")
        if name == "yaml" and isinstance(value, dict):
            _check_description(value)
        if not taken:
            _refuse_code(value, f"{kind.name}.{name}")


def _refuse_code(value: Any, where: str) -> None:
    """Refuse classes and methods where values belong."""
    for inner in _inside(value):
        if isinstance(inner, _Taken) or (isinstance(inner, _Name) and inner.is_layer):
            raise Refused(f"it puts code into {where}, so using it could execute code")


def _check_description(description: Mapping[Any, Any]) -> None:
    """Refuse a model's description of itself that names other things than layers: they would be made."""
    import ultralytics.nn.modules as layers

    activation = description.get("activation")
    if activation and not (isinstance(activation, str) and _ACTIVATION.fullmatch(activation.strip())):
        raise Refused(f"its model is described with the activation {str(activation)[:60]!r}, which is code")
    rows = [*(description.get("backbone") or ()), *(description.get("head") or ())]
    for row in rows:
        name = row[2] if isinstance(row, list | tuple) and len(row) > 2 else None
        source = nn if isinstance(name, str) and name.startswith("nn.") else layers
        found = getattr(source, str(name).removeprefix("nn."), None)
        if not inspect.isclass(found) or not issubclass(found, nn.Module) or name in _LOADING_LAYERS:
            raise Refused(f"its model is described with {name!r}, which is no layer that can be built here")


def _take(arguments: Any) -> _Taken:
    """What getattr gives; only what ultralytics itself takes from a layer or an enumeration."""
    source, name = arguments if isinstance(arguments, tuple) and len(arguments) == 2 else (None, None)
    if not isinstance(source, _Name | _Made) or name not in _TAKEN:
        raise Refused(f"it takes {_told(name)} from {_told(source)}, so loading it could execute code")
    return _Taken()


def _is_known(module: str, name: str) -> bool:
    """Whether it is a layer, or one of the values that go with them."""
    if name in _VALUES or name in _RENAMED or name == _GETATTR:
        return True
    return _LAYER_MODULE.fullmatch(module) is not None and inspect.isclass(_found(module, name))


def _found(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name.removeprefix(f"{module}."), None)
    except ImportError:
        return None


def _methods(name: str) -> frozenset[str]:
    """What the instances of a class share and call."""
    module, _, attribute = name.rpartition(".")
    kind = _found(module, f"{module}.{attribute}") or nn.Module
    shared = {key: value for base in reversed(kind.__mro__) for key, value in vars(base).items()}
    return frozenset(key for key, value in shared.items() if inspect.isroutine(value))


def _torch_names() -> Mapping[str, Any]:
    """What torch's restricted loader takes from anybody."""
    names: Mapping[str, Any] = restricted._get_allowed_globals()
    return names


def _inside(value: Any) -> Iterator[Any]:
    """`value` and what it holds, each once; not what layers hold, which is looked at by itself."""
    seen: set[int] = set()
    left = [value]
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        left.extend(_parts(item))


def _parts(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    if isinstance(item, list | tuple | set):
        return item
    return item.state if isinstance(item, _Made) and not item.kind.is_layer else ()


def _told(value: Any) -> str:
    if isinstance(value, _Made):
        value = value.kind
    return value.name if isinstance(value, _Name) else repr(value)[:40]
