"""Arrays that can be computed again: whole or absent, and never an exception for damage."""

import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.errors import InputError, StorageError
from voxloop.project.cache import ArrayCache

DIGEST, OTHER = "0123456789abcdef", "fedcba9876543210"
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    return ArrayCache(tmp_path / "cache")


def entry_folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "features" / DIGEST


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "<i4", ">u4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (3, 4, 5)])
def test_arrays_come_back(cache: ArrayCache, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).random(shape) * 4).astype(dtype)
    cache.put("features", DIGEST, {"values": array}, meta={"names": ["a", "b"], "n": 3})
    entry = cache.get("features", DIGEST)
    assert entry is not None
    assert entry.meta == {"names": ["a", "b"], "n": 3}
    values = entry.arrays["values"]
    assert values.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(values, array)
    # The files are what they say they are, for everybody else.
    assert np.array_equal(np.load(entry_folder(tmp_path) / "values.npy", allow_pickle=False), array)


def test_arrays_are_read_as_needed_and_cannot_be_written(cache: ArrayCache) -> None:
    cache.put("features", DIGEST, {"table": np.asfortranarray(TABLE), "reversed": TABLE[::-1, ::-1]})
    entry = cache.get("features", DIGEST)
    assert entry is not None
    assert isinstance(entry.arrays["table"], np.memmap)
    assert np.array_equal(entry.arrays["table"], TABLE)
    assert np.array_equal(entry.arrays["reversed"], TABLE[::-1, ::-1])
    with pytest.raises(ValueError, match="read-only"):
        entry.arrays["table"][0] = 1


def test_missing_and_stale_entries_are_none_without_a_word(cache: ArrayCache, caplog: pytest.LogCaptureFixture) -> None:
    assert cache.get("features", DIGEST) is None
    cache.put("features", DIGEST, {"table": TABLE})
    assert cache.get("features", OTHER) is None
    assert cache.get("labels", DIGEST) is None
    assert caplog.records == []
    assert [cache.digest_of(name) for name in ("features", "labels")] == [DIGEST, None]


def test_a_new_digest_takes_the_place_of_the_old(cache: ArrayCache, tmp_path: Path) -> None:
    cache.put("features", DIGEST, {"table": TABLE})
    old = cache.get("features", DIGEST)
    cache.put("features", OTHER, {"table": TABLE + 1})
    assert cache.get("features", DIGEST) is None
    new = cache.get("features", OTHER)
    assert old is not None
    assert new is not None
    assert np.array_equal(new.arrays["table"], TABLE + 1)
    assert np.array_equal(old.arrays["table"], TABLE)  # whoever holds it goes on reading what was there
    assert [entry.name for entry in (tmp_path / "cache" / "features").iterdir()] == [OTHER]
    assert cache.digest_of("features") == OTHER


def test_the_same_digest_again_replaces_a_damaged_entry(cache: ArrayCache, tmp_path: Path) -> None:
    cache.put("features", DIGEST, {"table": TABLE})
    (entry_folder(tmp_path) / "table.npy").unlink()
    cache.put("features", DIGEST, {"table": TABLE})
    entry = cache.get("features", DIGEST)
    assert entry is not None
    assert np.array_equal(entry.arrays["table"], TABLE)


def test_blocks_are_filled_in_from_threads(cache: ArrayCache) -> None:
    with cache.create("labels", DIGEST, {"labels": ((6, 4, 5), np.uint32), "sizes": ((7,), "i8")}) as draft:
        assert cache.get("labels", DIGEST) is None
        assert not draft.arrays["labels"].any()

        def fill(z: int) -> None:
            draft.arrays["labels"][z] = z

        threads = [threading.Thread(target=fill, args=(z,)) for z in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        draft.meta["n"] = 7
    entry = cache.get("labels", DIGEST)
    assert entry is not None
    assert entry.meta == {"n": 7}
    assert np.array_equal(entry.arrays["labels"], np.broadcast_to(np.arange(6)[:, None, None], (6, 4, 5)))
    assert entry.arrays["sizes"].shape == (7,)


def test_an_interrupted_entry_is_absent(cache: ArrayCache, tmp_path: Path) -> None:
    cache.put("labels", DIGEST, {"labels": TABLE})
    with pytest.raises(KeyboardInterrupt), cache.create("labels", OTHER, {"labels": ((4,), "u4")}) as draft:  # noqa: PT012
        draft.arrays["labels"][:2] = 1
        raise KeyboardInterrupt
    assert cache.get("labels", OTHER) is None
    assert cache.get("labels", DIGEST) is not None
    assert [entry.name for entry in (tmp_path / "cache" / "labels").iterdir()] == [DIGEST]


def test_leftovers_of_a_crash_are_removed_by_the_next_writer(cache: ArrayCache, tmp_path: Path) -> None:
    cache.put("features", DIGEST, {"table": TABLE})
    leftover = tmp_path / "cache" / "features" / f".{OTHER}.01234567.partial"
    leftover.mkdir()
    (leftover / "table.npy").touch()
    assert ArrayCache(tmp_path / "cache", read_only=True).digest_of("features") == DIGEST
    assert leftover.exists()
    assert ArrayCache(tmp_path / "cache").get("features", DIGEST) is not None
    assert not leftover.exists()


def damage_json(path: Path, **fields: object) -> None:
    header = json.loads((path / "entry.json").read_text())
    (path / "entry.json").write_text(json.dumps({**header, **fields}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "entry.json").unlink(),
        lambda path: (path / "entry.json").write_bytes(b""),
        lambda path: (path / "entry.json").write_bytes(b"[" * 10_000),
        lambda path: (path / "table.npy").unlink(),
        lambda path: (path / "table.npy").write_bytes(b""),
        lambda path: (path / "table.npy").write_bytes((path / "table.npy").read_bytes()[:-1]),
        lambda path: (path / "table.npy").write_bytes((path / "table.npy").read_bytes() + b"\0"),
        lambda path: damage_json(path, name="labels"),
        lambda path: damage_json(path, digest=OTHER),
        lambda path: damage_json(path, format=2),
        lambda path: damage_json(path, arrays={"table": {"dtype": "|O8", "shape": [4, 3], "offset": 128}}),
        lambda path: damage_json(path, arrays={"table": {"dtype": "<f4", "shape": [4, 4], "offset": 128}}),
        lambda path: damage_json(path, arrays={"table": {"dtype": "<f4", "shape": [-4, -3], "offset": 128}}),
        lambda path: damage_json(path, arrays={"table": {"dtype": "<f4", "shape": [2**47] * 9, "offset": 128}}),
        lambda path: damage_json(path, arrays={"../table": {"dtype": "<f4", "shape": [4, 3], "offset": 128}}),
    ],
)
def test_a_damaged_entry_is_none_with_a_warning(
    cache: ArrayCache, tmp_path: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put("features", DIGEST, {"table": TABLE})
    damage(entry_folder(tmp_path))
    assert cache.get("features", DIGEST) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("features in the cache is damaged and will be computed again: ")
    assert "\n" not in record.getMessage()


@given(content=st.binary(max_size=200))
def test_any_header_is_read_without_an_exception(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_header"
    (folder / "features" / DIGEST).mkdir(parents=True, exist_ok=True)
    (folder / "features" / DIGEST / "entry.json").write_bytes(content)
    assert ArrayCache(folder).get("features", DIGEST) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cache: cache.get("../features", DIGEST), "name must match"),
        (lambda cache: cache.get("features", "../../etc"), "digest must match"),
        (lambda cache: cache.put("features", "", {}), "digest must match"),
        (lambda cache: cache.put("features", DIGEST, {"a/b": TABLE}), "array name must match"),
        (lambda cache: cache.put("features", DIGEST, {"names": np.array(["a"])}), "names has dtype <U1"),
        (lambda cache: cache.put("features", DIGEST, {"things": np.array([None])}), "things has dtype object"),
        (lambda cache: cache.put("features", DIGEST, {}, meta={"array": TABLE}), "meta of features is no JSON"),
        (lambda cache: cache.put("features", DIGEST, {}, meta={"nan": float("nan")}), "meta of features is no JSON"),
    ],
)
def test_what_cannot_be_kept_is_refused(cache: ArrayCache, tmp_path: Path, call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(cache)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(StorageError, match=r"cannot write .*: (Not a directory|File exists)"):
        ArrayCache(tmp_path / "cache").put("features", DIGEST, {"table": TABLE})
