"""Vectors of faces tell people apart who were never seen in training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import people, write_pictures
from job_recorder import JobRun

from runners.faces.framework import Faces
from runners.process.errors import UserError
from runners.timm.framework import Timm

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

QUICK = {"scale_min": 0.5, "color_jitter": 0.2, "smoothing": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a classifier that tells 20 drawn people apart; its vectors have 512 numbers."""
    folder = tmp_path_factory.mktemp("known")
    write_pictures(folder / "people" / "train", people(32)[:20], each=6, seed=1)
    write_pictures(folder / "people" / "val", people(32)[:20], each=2, seed=2)
    settings = {"model_name": "resnet10t", "epochs": 6, "batch_size": 16, "image_size": 64}
    settings |= {"learning_rate": 2e-3, "hyperparameters": QUICK}
    paths = {"dataset_path": folder / "people", "output_path": folder / "training"}
    JobRun(Timm(), kind="train", **settings, **paths).go()
    return folder / "training" / "best.safetensors"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures each of twelve other people, in one folder."""
    folder = tmp_path_factory.mktemp("strangers")
    write_pictures(folder / "people", people(32)[20:], each=4, seed=3)
    for path in (folder / "people").rglob("*.jpg"):
        shutil.move(path, folder / f"{path.parent.name}-{path.name}")
    shutil.rmtree(folder / "people")
    return folder


def test_vectors_tell_strangers_apart(known: Path, strangers: Path, tmp_path: Path) -> None:
    values = {"embedding_checkpoint_path": known, "image_paths": strangers, "output_path": tmp_path}
    run = JobRun(Faces(), kind="embed_faces", hyperparameters={"margin": 0.1}, **values).go()
    found = [prediction for prediction in run.results("prediction") if prediction.faces]
    assert len(found) >= 30, "of 48"
    vectors = np.array([np.load(tmp_path / f"faces/{p.index}/0.bin") for p in found])
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(found), 512))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(found)), abs=1e-5)
    who = np.array([Path(prediction.image_uri).name.partition("-")[0] for prediction in found])
    area = verification_auc(vectors, who)
    assert area > 0.85
    assert not any(face.embedding.values for prediction in found for face in prediction.faces)
    assert run.results("inference")[0].embedding_dimension == 512
    print(f"{len(found)} of 48 drawn faces found; AUC {area:.3f} between people who were not in training")


def verification_auc(vectors: np.ndarray, who: np.ndarray) -> float:
    """How likely two pictures of one person are more alike than two of different people."""
    pairs = np.triu_indices(len(who), 1)
    alike, same = (vectors @ vectors.T)[pairs], (who[:, None] == who)[pairs]
    return float((alike[same][:, None] > alike[~same]).mean())


def test_raw_vectors_are_told_with_the_face_if_asked_for(
    known: Path, strangers: Path, tmp_path: Path
) -> None:
    values = {"embedding_checkpoint_path": known, "image_paths": strangers, "output_path": tmp_path}
    run = JobRun(Faces(), kind="embed_faces", normalize=False, inline_values=True, **values).go()
    faces = [face for prediction in run.results("prediction") for face in prediction.faces]
    lengths = [np.linalg.norm(face.embedding.values) for face in faces]
    assert np.std(lengths) > 0.05


def test_a_classifier_is_no_sface(known: Path, strangers: Path, tmp_path: Path) -> None:
    values = {"embedding_checkpoint_path": known, "image_paths": strangers, "output_path": tmp_path}
    with pytest.raises(UserError, match="OpenCV cannot run it as SFace"):
        JobRun(Faces(), kind="embed_faces", embedding_model_name="sface", **values).go()
    with pytest.raises(UserError, match="known: sface, timm"):
        JobRun(Faces(), kind="embed_faces", embedding_model_name="yunet", **values).go()
    broken = tmp_path / "best.safetensors"
    broken.write_bytes(known.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not a checkpoint that can be used here"):
        JobRun(Faces(), kind="embed_faces", **values | {"embedding_checkpoint_path": broken}).go()
