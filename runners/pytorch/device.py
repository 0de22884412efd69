"""Which device a job computes on."""

import torch

from runners.process.errors import UserError


def choose(wanted: str | None, gpus: int = 0, *, several: bool = False) -> str:
    """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said.

    Of `gpus` that are the job's own all are taken where `several` can be used: cuda:0,1 and so on. Raises
    UserError if there is no such device, or more are asked for than can be used.
    """
    if gpus > 1 and not several:
        text = f"The job asks for {gpus} GPUs, and this framework uses one for it. Ask for one."
        raise UserError(text, reason="UNSUPPORTED")
    if gpus > 1 and wanted in (None, "cuda"):
        wanted = "cuda:" + ",".join(map(str, range(gpus)))
    wanted = wanted or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda"):
        return _cuda(wanted, torch.cuda.device_count() if torch.cuda.is_available() else 0, several)
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE is 'mps', which this machine does not have. Use cpu, or leave it out.")
    if wanted not in ("cpu", "mps"):
        raise UserError(f"DEVICE is {wanted!r}; it must be cpu, mps, cuda or cuda:0.")
    return wanted


def each(device: str) -> list[str]:
    """The devices of a list: cuda:0 and cuda:1 of cuda:0,1."""
    kind, _, indices = device.partition(":")
    return [f"{kind}:{index}" for index in indices.split(",")] if indices else [kind]


def _cuda(wanted: str, count: int, several: bool) -> str:
    indices = (wanted.removeprefix("cuda").removeprefix(":") or "0").split(",")
    if len(indices) > 1 and not several:
        text = (
            f"DEVICE is {wanted!r}; this framework uses one GPU for a job of this kind. Name one, as cuda:0."
        )
        raise UserError(text, reason="UNSUPPORTED")
    if not all(index.isdecimal() and int(index) < count for index in indices):
        raise UserError(f"DEVICE is {wanted!r}, but there are {count} GPUs here. Use cpu, or leave it out.")
    return "cuda:" + ",".join(dict.fromkeys(indices))
