"""Label, macro and thumbnail of a slide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from napari_focusfuse.slide import UInt8Image


class Pictures(Mapping[str, UInt8Image]):
    """Pictures by name, each decoded when it is asked for.

    Parameters
    ----------
    names
        Which there are.
    read
        Decodes the picture of a name to (Y, X, 3) uint8.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], UInt8Image]) -> None:
        self._names = tuple(names)
        self._decode = read

    def __getitem__(self, name: str) -> UInt8Image:
        if name not in self._names:
            raise KeyError(name)
        return self._decode(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
