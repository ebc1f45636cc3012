"""The window: the only modules that know napari, Qt and magicgui."""
