"""Archives as torch.save writes them."""

import zipfile
from pathlib import Path


def refuse_compressed(path: Path) -> None:
    """Raise ValueError for an archive with compressed entries: unpacked they could fill any memory.

    torch.save compresses nothing, so no entry of its own is larger than the file. Passes over what is no
    archive at all.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"its entry {packed[0]} is compressed, which torch does not do")
