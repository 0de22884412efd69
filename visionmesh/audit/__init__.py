"""Checks, from outside, that what is stored of a job is whole and agrees with itself.

    history = await read_history(client.job("train-7k3m9q2x"))
    for check in check_history(history):
        print(check.name, check.summary, check.problems)

It asks the mesh what any client may ask and believes no count that it can count itself, so it also
speaks of a restored backup or of a scheduler that somebody else wrote.
"""

from visionmesh.audit._checks import Check, check_history
from visionmesh.audit._files import check_files
from visionmesh.audit._history import History, StoredPrediction, read_history

__all__ = ["Check", "History", "StoredPrediction", "check_files", "check_history", "read_history"]
