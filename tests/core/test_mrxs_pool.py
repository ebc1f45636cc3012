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


def test_a_tile_is_decoded_once_until_it_is_the_oldest():
    pool, log = TilePool((4, 5), 2 * TILE), []
    for key in (1, 2, 1, 3, 1, 2):
        with pool.held(key, filled(key, log)) as image:
            assert image.shape == (4, 5, 3)
            assert (image == key).all()
    assert log == [1, 2, 3, 2]


def test_a_tile_that_is_lent_is_not_overwritten():
    pool = TilePool((4, 5), 2 * TILE)
    with pool.held(1, filled(1)) as first, pool.held(2, filled(2)) as second:
        with pool.held(3, filled(3)) as third:  # beyond the block
            assert (third == 3).all()
        assert (first == 1).all()
        assert (second == 2).all()
    with pool.held(4, filled(4)), pool.held(5, filled(5)) as fifth:
        assert (fifth == 5).all()


def test_a_place_whose_tile_was_not_decoded_is_free_again():
    pool = TilePool((4, 5), TILE)

    def broken(out: np.ndarray) -> None:
        raise ValueError("damaged")

    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), pool.held(1, broken):
            pass
    log: list[int] = []
    for _ in range(2):
        with pool.held(1, filled(7, log)) as image:
            assert (image == 7).all()
    assert log == [7]


def test_threads_never_see_another_tile():
    pool, wrong = TilePool((4, 5), 3 * TILE), []

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 8, 300).tolist():
            with pool.held(key, filled(key)) as image:
                if (image != key).any():
                    wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
