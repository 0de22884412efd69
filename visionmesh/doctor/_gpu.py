"""The GPUs, as the driver tells them, and whether torch fits the driver."""

from dataclasses import dataclass
from pathlib import Path

import pynvml

from visionmesh.doctor._finding import Finding, ok, problem, warning

_NVIDIA, _DISPLAY = "0x10de", "0x03"
_PCI = Path("/sys/bus/pci/devices")
_TORCH = "python -m pip install --force-reinstall torch torchvision"


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says."""

    gpus: tuple[str, ...] = ()
    """Models."""

    version: str = ""
    """Empty without a driver."""

    cuda: tuple[int, int] = (0, 0)
    """Newest CUDA that it runs."""


def driver() -> Driver:
    """Ask the driver; an empty answer where there is none. Makes no CUDA context."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Driver()
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        names = tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
        return Driver(names, str(pynvml.nvmlSystemGetDriverVersion()), (cuda // 1000, cuda % 1000 // 10))
    finally:
        pynvml.nvmlShutdown()


def gpu(driver: Driver, built_for: str | None, *, works: bool, devices: Path = _PCI) -> Finding:
    """Whether torch, built for CUDA `built_for` (None: for the CPU), can use the GPUs."""
    if not driver.gpus:
        return _without(devices)
    seen = f"{', '.join(driver.gpus)}; driver {driver.version} runs CUDA up to {_dotted(driver.cuda)}"
    if built_for is None:
        return problem("GPU", f"{seen}; this torch is for CPUs only, so jobs cannot use it", _TORCH)
    if int(built_for.split(".")[0]) > driver.cuda[0]:
        advice = f"install a newer driver, or a torch for CUDA {driver.cuda[0]} or older"
        return problem("GPU", f"{seen}; torch is built for CUDA {built_for}", advice)
    if not works:
        advice = "see `nvidia-smi`, CUDA_VISIBLE_DEVICES, and restart after a driver update"
        return problem("GPU", f"{seen}; torch for CUDA {built_for} finds none that it can use", advice)
    return ok("GPU", f"{seen}; torch is built for CUDA {built_for}")


def _without(devices: Path) -> Finding:
    if any(_is_nvidia(device) for device in devices.glob("*")):
        return warning(
            "GPU", "an NVIDIA GPU without a driver", "install the NVIDIA driver, or train on the CPU"
        )
    return ok("GPU", "no NVIDIA GPU: jobs run on the CPU")


def _is_nvidia(device: Path) -> bool:
    try:
        vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
    except OSError:
        return False
    return vendor == _NVIDIA and kind.startswith(_DISPLAY)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
