"""What PyTorch and the libraries below it read when they are imported: call `prepare` before that."""

import os

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # without it each missing weight is asked for over and over
    "MPLBACKEND": "Agg",
    # One thread until torch is told otherwise: a process that is forked must have only one.
    "OPENBLAS_NUM_THREADS": "1",
}
# Threads that wait for each other sleep. By default they spin, and where other processes want the same
# cores (a second slot, an agent of another framework) each spins away the time that the other needs:
# two trainings on two cores took 13 times as long.
_UNLESS_SET = {"OMP_WAIT_POLICY": "PASSIVE"}


def prepare() -> None:
    """Offline, without a display, one thread, and patient threads unless the environment says otherwise."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
