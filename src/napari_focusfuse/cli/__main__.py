"""``python -m napari_focusfuse.cli``: the command line where the script is not on the path."""

from .program import main

main()
