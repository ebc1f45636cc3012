"""Memory of decoded tiles that is used again, but never while somebody looks at it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_focusfuse.readers.mrxs_pool import TilePool

TILE = 4 * 5 * 3


def filled(value: int, log: list[int] | None = None):
    def decode(out: np.ndarray) -> None:
        if log is not None:
            log.append(value)
        out[:] = value

    return decode


def seen(pool: TilePool, key: int, log: list[int] | None = None) -> int:
    """Return the one value of a tile."""
    values: list[int] = []

    def look(image: np.ndarray) -> None:
        assert image.shape == (4, 5, 3)
        values.extend(np.unique(image).tolist())

    pool.use(key, filled(key, log), look)
    (value,) = values
    return value


def test_a_tile_is_decoded_once_until_it_is_the_oldest():
    pool, log = TilePool((4, 5), 2 * TILE), []
    for key in (1, 2, 1, 3, 1, 2):
        assert seen(pool, key, log) == key
    assert log == [1, 2, 3, 2]


def test_a_tile_that_is_looked_at_is_not_overwritten():
    pool = TilePool((4, 5), 2 * TILE)
    looks: list[int] = []

    def second(first: np.ndarray) -> None:
        def third(image: np.ndarray) -> None:
            assert seen(pool, 3) == 3  # beyond the block
            assert (first == 1).all()
            assert (image == 2).all()
            looks.append(2)

        pool.use(2, filled(2), third)

    pool.use(1, filled(1), second)
    assert looks == [2]
    assert [seen(pool, key) for key in (4, 5)] == [4, 5]


def test_a_place_whose_tile_was_not_decoded_is_free_again():
    pool = TilePool((4, 5), TILE)

    def broken(out: np.ndarray) -> None:
        raise ValueError("damaged")

    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"):
            pool.use(1, broken, lambda image: None)
    log: list[int] = []
    assert [seen(pool, 1, log) for _ in range(2)] == [1, 1]
    assert log == [1]


def test_threads_never_see_another_tile():
    pool, found = TilePool((4, 5), 3 * TILE), []

    def work(seed: int) -> None:
        keys = np.random.default_rng(seed).integers(0, 8, 300).tolist()
        found.extend(seen(pool, key) == key for key in keys)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 1200
