"""Trains the blur models and generators of napari-focusfuse."""
