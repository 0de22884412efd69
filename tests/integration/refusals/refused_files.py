"""What is refused of uploads, archives and datasets."""

import stat
import struct
import warnings
import zlib

from refusal_world import (
    Table,
    archive,
    bad,
    chunk,
    damaged,
    gone,
    header,
    of_archive,
    of_dataset,
    picture,
    rpc,
    taken,
    too_much,
    upload,
)

from visionmesh.errors import Reason
from visionmesh.v1 import dataset_pb2

_BAD, _ARCHIVE, _DATASET = Reason.INVALID_ARGUMENT, Reason.BAD_ARCHIVE, Reason.DATASET_INVALID

UPLOADS: Table = {
    "upload without a header": bad(
        upload(chunk(b"data")), _BAD, "header", "the first message of UploadFile", "is the header",
    ),
    "upload of nothing": bad(upload(), _BAD, "header", "the first message of UploadFile", "is the header"),
    "upload with two headers": bad(
        upload(header(), header()), _BAD, "chunk", "nothing else", "Begin again with one header",
    ),
    "upload with an empty message": bad(
        upload(header(), dataset_pb2.UploadFileRequest()), _BAD, "chunk", "nothing else",
        "Begin again with one header",
    ),
    "upload under a path": bad(
        upload(header(filename="../a.zip")),
        _BAD, "header.filename", "got '../a.zip'", "must be 1 to 255 characters without / and \\",
    ),
    "upload under a name with a backslash": bad(
        upload(header(filename="a\\b.zip")), _BAD, "header.filename", "got 'a", "characters without / and \\",
    ),
    "upload under a name with NUL": bad(
        upload(header(filename="a\0b.zip")), _BAD, "header.filename", "got 'a", "characters without / and \\",
    ),
    "upload of a negative size": bad(
        upload(header(size_bytes=-1)), _BAD, "header.size_bytes", "got -1",
        "must be greater than or equal to 0",
    ),
    "upload with a digest that is none": bad(
        upload(header(sha256="abc")), _BAD, "header.sha256", "got 'abc'", "must be a SHA-256 as 64 digits",
    ),
    "upload that announces too much": too_much(
        upload(header(size_bytes=2**40)),
        Reason.MESSAGE_TOO_LARGE, "header.size_bytes", "The file takes 1099511627776 bytes",
        "larger MAX_UPLOAD_BYTES",
    ),
    "upload that grows too large": too_much(
        upload(header(), *[chunk(bytes(2**20))] * 5),
        Reason.MESSAGE_TOO_LARGE, "header.size_bytes", "at most 4194304 are taken", "larger MAX_UPLOAD_BYTES",
    ),
    "piece that is too large": too_much(
        upload(header(), chunk(bytes(2**20 + 1))),
        Reason.MESSAGE_TOO_LARGE, "chunk", "at most 1048576 are taken", "in smaller pieces",
    ),
    "upload of another size": damaged(
        upload(header(size_bytes=3), chunk(b"data")), Reason.DATA_LOSS, "", "has 4 bytes, 3 were announced",
        "send them again",
    ),
    "upload of another digest": damaged(
        upload(header(sha256="0" * 64), chunk(b"data")),
        Reason.DATA_LOSS, "", "000 was announced", "Nothing was stored; send them again",
    ),
}  # fmt: skip


def patched(data: bytes, *places: tuple[bytes, int, int]) -> bytes:
    """Bytes changed in a zip: (the signature of a record, an offset in it, the value)."""
    changed = bytearray(data)
    for signature, offset, value in places:
        changed[changed.index(signature) + offset] = value
    return bytes(changed)


def damaged_deflate() -> bytes:
    data = bytearray(archive({"images/train/0.jpg": "some text that is compressed " * 40}))
    start = data.index(b"0.jpg") + len(b"0.jpg")
    data[start : start + 10] = b"\xff" * 10
    return bytes(data)


def twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile knows that it is wrong
        return archive([("images/a.jpg", "1"), ("data.yaml", ""), ("images/a.jpg", "2")])


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
ONE = archive({"images/train/a.jpg": "x", "data.yaml": "names: [a]"}, compression=0)

ARCHIVES: Table = {
    case: bad(of_archive(data), _ARCHIVE, "upload", what, instead)
    for case, (data, what, instead) in {
        "text": (b"this is no zip", "not a whole zip archive", "Pack it again"),
        "nothing": (b"", "not a whole zip archive", "Pack it again"),
        "no files": (archive({"folder/": ""}), "holds no files", "Pack the folder with its files"),
        "cut short": (ONE[:-30], "not a whole zip archive", "Pack it again"),
        "damaged bytes": (damaged_deflate(), "is damaged", "Pack it again"),
        "name that leads out": (archive({"../../escape.txt": "x"}), "leads out", "with relative names"),
        "absolute name": (archive({"/etc/passwd": "x"}), "leads out", "with relative names"),
        "name of a drive": (archive({"C:/windows/x": "x"}), "leads out", "with relative names"),
        "name with a backslash": (archive({"images\\a.jpg": "x"}), "leads out", "with relative names"),
        "name with a line break": (archive({"images/a\nb.jpg": "x"}), "a control character",
        "Rename the file"),
        "name that is too long": (archive({"x" * 300: "x"}), "too long a name", "Rename the file"),
        "symbolic link": (archive({"images/a.jpg": "/etc/passwd"}, mode=stat.S_IFLNK | 0o777),
                          "a link or a special file", "Pack the files themselves"),
        "named pipe": (archive({"images/a.jpg": ""}, mode=stat.S_IFIFO | 0o644),
                       "a link or a special file", "Pack the files themselves"),
        "file twice": (twice, "is in the archive twice", "Rename one of them"),
        "names that differ in case": (archive({"images/A.jpg": "1", "images/a.jpg": "2", "x": ""}),
                                      "one name on many disks", "Rename one of them"),
        "file and folder at once": (archive({"a": "1", "a/b": "2", "c": ""}),
        "is a file and a folder at once",
        "Rename one of them"),
        "encrypted": (patched(ONE, (LOCAL, 6, 1), (CENTRAL, 8, 1)), "is encrypted", "without a password"),
        "packed by Zstandard": (patched(ONE, (LOCAL, 8, 93), (CENTRAL, 10, 93)), "is packed in a way",
        "with Deflate"),
        "too many files": (archive({f"{n}.jpg": "" for n in range(41)}), "holds 41 files; at most 40",
        "Split it"),
        "too many bytes": (archive({f"{n}.bin": bytes(9 * 2**20) for n in range(2)}),
                           "more than 16777216 bytes", "Split it, or leave out"),
        "bomb": (archive({"zeros.bmp": bytes(11 * 2**20)}), "grows more than 200 times", "with real content"),
        "bomb in many pieces": (archive({f"{n}.bmp": bytes(2**20) for n in range(12)}),
                                "the archive grows more than 200 times", "with real content"),
    }.items()
}  # fmt: skip


def labelled(label: str, names: str = "names: [circle, square]") -> dict[str, str | bytes]:
    return {"data.yaml": names, "images/train/0.jpg": picture(), "labels/train/0.txt": label}


def showing(name: str, data: bytes | str) -> dict[str, str | bytes]:
    """A dataset with one more image."""
    return labelled("") | {f"images/train/{name}": data}


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims to be this large."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


DATASETS: Table = {
    case: bad(of_dataset(files), _DATASET, field, what, instead)
    for case, (files, field, what, instead) in {
        "class that does not exist": (labelled("0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n"),
                                      "labels/train/0.txt:2", "class 7 does not exist",
                                      "there are 2 classes, 0 to 1"),
        "class that is negative": (labelled("-1 .5 .5 .1 .1"),
                                   "labels/train/0.txt:1", "got '-1'", "must be a whole number from 0"),
        "box in pixels": (labelled("0 120 .5 .1 .1"),
                          "labels/train/0.txt:1", "(pixels?)", "must be a share of the image from 0 to 1"),
        "box that is NaN": (labelled("0 nan .5 .1 .1"), "labels/train/0.txt:1", "got 'nan'",
        "must be a finite number"),
        "box without width": (labelled("0 .5 .5 0 .1"), "labels/train/0.txt:1", "width", "must be above 0"),
        "label line that is too short": (labelled("\n0 .5 .5"),
                                         "labels/train/0.txt:2", "got 3 fields", "expected `class x_center"),
        "label without its image": (labelled("") | {"labels/train/9.txt": ""},
                                    "labels/train/9.txt", "there is no image for it",
                                    "add one, or remove the labels"),
        "class names that are not numbered": (labelled("", "names: {0: a, b: c}"),
                                              "data.yaml", "without a gap",
                                              "must number the classes 0, 1, 2"),
        "data.yaml that is none": (labelled("", "names: [a"), "data.yaml", "it is not YAML",
        "write `names: [first"),
        "no class names": ({"images/train/0.jpg": picture()}, "data.yaml", "there is none",
        "write one with `names:"),
        "no images": ({"data.yaml": "names: [a]"}, "images", "no images were found",
        "put them into images/train"),
        "text named like an image": (showing("text.jpg", "hello"),
                                     "images/train/text.jpg", "no image of a known format",
                                     "save it as one of JPEG"),
        "image of no bytes": (showing("none.png", ""), "images/train/none.png", "the file is empty",
        "send it again"),
        "image that moves": (showing("a.jpg", picture("GIF")),
                             "images/train/a.jpg", "no image of a known format", "save it as one of JPEG"),
        "image by an ending off the list": (showing("a.gif", picture("GIF")),
                                            "images/train/a.gif", ".gif is not trained on",
                                            "save it as one of .bmp"),
        "image of a format off the list": (showing("a.png", picture("ICO")),
                                           "images/train/a.png", "no image of a known format",
                                           "save it as one of"),
        "image past the pixel cap": (showing("big.png", bomb(10_001)),
                                     "images/train/big.png", "more than 100 million pixels", "scale it down"),
        "pixel bomb": (showing("bomb.png", bomb(2**20)),
                       "images/train/bomb.png", "more than 100 million pixels", "scale it down"),
        "image of a few pixels": (showing("dot.png", picture("PNG", (9, 9))),
                                  "images/train/dot.png", "too few", "each side needs 10 at least"),
    }.items()
}  # fmt: skip


def twice_of(files, **fields):
    """A dataset, and another one with the same fields."""

    async def ask(world):
        await of_dataset(labelled(""), **fields)(world)
        await of_dataset(files, **fields)(world)

    return ask


NAMED: Table = {
    "absent upload as a dataset": bad(
        rpc("datasets", "CreateDataset", lambda w: dataset_pb2.CreateDatasetRequest(upload="uploads/no")),
        Reason.NOT_FOUND, "upload", "no upload 'uploads/no'", "Upload the archive first",
    ),
    "dataset without an upload": bad(
        rpc("datasets", "CreateDataset", lambda w: dataset_pb2.CreateDatasetRequest()),
        _BAD, "upload", "got ''", "must have the form uploads/{upload}",
    ),
    "dataset under a path": bad(
        rpc("datasets", "CreateDataset", lambda w: dataset_pb2.CreateDatasetRequest(
            upload="uploads/no", dataset_id="../x")),
        _BAD, "dataset_id", "got '../x'", "must be 1 to 63 of a-z, 0-9 and -",
    ),
    "dataset of a name that is taken": taken(
        twice_of(labelled("0 .5 .5 .1 .1"), dataset_id="taken"),
        Reason.ALREADY_EXISTS, "", "exists and has other files", "Choose another dataset_id",
    ),
    "request_id with another dataset": taken(
        twice_of(labelled("0 .5 .5 .1 .1"), request_id="of-a-dataset"),
        Reason.REQUEST_ID_REUSED, "", "'of-a-dataset'", "new request_id",
    ),
    "get of an absent dataset": gone(
        rpc("datasets", "GetDataset", lambda w: dataset_pb2.GetDatasetRequest(name="datasets/absent")),
        "no dataset 'datasets/absent'",
    ),
    "delete of an absent dataset": gone(
        rpc("datasets", "DeleteDataset", lambda w: dataset_pb2.DeleteDatasetRequest(name="datasets/absent")),
        "no dataset 'datasets/absent'",
    ),
}  # fmt: skip
