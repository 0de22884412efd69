"""Which device a job computes on."""

import torch

from runners.process.errors import UserError


def choose(wanted: str | None) -> str:
    """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said.

    Raises UserError if there is no such device.
    """
    wanted = wanted or ("cuda:0" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda"):
        return _cuda(wanted, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE is 'mps', which this machine does not have. Use cpu, or leave it out.")
    if wanted not in ("cpu", "mps"):
        raise UserError(f"DEVICE is {wanted!r}; it must be cpu, mps, cuda or cuda:0.")
    return wanted


def _cuda(wanted: str, count: int) -> str:
    index = wanted.removeprefix("cuda").removeprefix(":") or "0"
    if "," in index:
        raise UserError(f"DEVICE is {wanted!r}; one job uses one GPU in this version. Name one, as cuda:0.")
    if not index.isdecimal() or int(index) >= count:
        raise UserError(f"DEVICE is {wanted!r}, but there are {count} GPUs here. Use cpu, or leave it out.")
    return f"cuda:{index}"
