"""The suite of stores on a local folder and on the fake, and the two side by side."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_suite import StoreSuite, pieces

from visionmesh.storage import BadKey, LocalStore, MemoryStore, ObjectStore, check_key


class TestLocalFolder(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalStore(tmp_path / "store")


class TestMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


@given(st.text(max_size=30) | st.text(alphabet="./\\\0ab", max_size=12))
def test_a_key_is_fit_or_refused_and_never_leads_out(key: str) -> None:
    try:
        check_key(key)
    except BadKey:
        return
    joined = Path("/srv/store") / key
    assert joined.parts[:3] == ("/", "srv", "store")
    assert ".." not in joined.parts
    assert joined.relative_to("/srv/store").as_posix() == key


NAMES = st.sampled_from(["a", "b", "a/x", "a/x/y", "a/z", "c/d"])
STEPS = st.lists(
    st.tuples(st.just("put"), NAMES, st.binary(max_size=4))
    | st.tuples(st.just("delete"), NAMES, st.none())
    | st.tuples(st.just("delete_prefix"), NAMES, st.none())
    | st.tuples(st.just("copy"), NAMES, NAMES),
    max_size=12,
)


async def _apply(store: ObjectStore, step: tuple[str, str, bytes | str | None]) -> None:
    operation, name, extra = step
    if isinstance(extra, bytes):
        await store.put(name, pieces(extra))
    elif isinstance(extra, str):
        await store.copy(name, extra)
    elif operation == "delete":
        await store.delete(name)
    else:
        await store.delete_prefix(name + "/")


@given(STEPS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_folder_and_the_fake_do_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes | str | None]]
) -> None:
    real, fake = LocalStore(tmp_path_factory.mktemp("store")), MemoryStore()
    for step in steps:
        try:
            await _apply(real, step)
        except (BadKey, FileNotFoundError) as refused:
            if isinstance(refused, FileNotFoundError):
                with pytest.raises(FileNotFoundError):
                    await _apply(fake, step)
            continue  # a key below another object's: a folder cannot have it
        await _apply(fake, step)
        assert [found async for found in real.entries("")] == [found async for found in fake.entries("")]
