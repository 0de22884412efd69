"""Shares images out between training and validation, each class in the same proportion.

Iterative stratification: of the classes that are left the rarest comes first, and each of its images goes
where that class is wanted most; what images have of other classes is counted along. With one class in
each image it is stratification as usual.

Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data (ECML PKDD 2011).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

VAL_SHARE = 0.2
SEED = 0

_NOTHING = ""  # the class of images that show none


def share_out(classes: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Train or val for each image, by the classes that it shows.

    Of two images or more one is for validation; so it is of those of a class, where no image has two.
    """
    shown = {name: set(classes[name]) or {_NOTHING} for name in sorted(classes, key=_place_of)}
    totals = Counter(label for labels in shown.values() for label in labels)
    wanted = {label: _wanted(count) for label, count in totals.items()}
    room = _wanted(len(shown))
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for name, labels in shown.items():
        for label in labels:
            by_class[label].append(name)
    shared: dict[str, str] = {}
    while totals:
        rarest = min(totals, key=lambda label: (totals[label], label))
        for name in [name for name in by_class[rarest] if name not in shared]:
            split = max(room, key=lambda split: (wanted[rarest][split], room[split]))
            shared[name] = split
            room[split] -= 1
            for label in shown[name]:
                wanted[label][split] -= 1
                totals[label] -= 1
        totals = Counter({label: count for label, count in totals.items() if count > 0})
    return _with_val(shared, list(shown))


def _wanted(count: int) -> dict[str, float]:
    val = max(count * VAL_SHARE, 1.0) if count > 1 else 0.0
    return {"train": count - val, "val": val}


def _with_val(shared: dict[str, str], names: list[str]) -> dict[str, str]:
    """If no class has two images, none was wanted for validation: then chance decides."""
    if "val" in shared.values() or len(names) < 2:
        return shared
    return shared | dict.fromkeys(names[: max(1, round(len(names) * VAL_SHARE))], "val")


def _place_of(name: str) -> tuple[bytes, str]:
    """By chance, but the same wherever an image of that name lies."""
    return hashlib.sha256(f"{SEED}/{PurePosixPath(name).stem}".encode()).digest(), name
