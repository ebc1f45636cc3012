"""The command line ``focusfuse``: a contract with the scripts that call it."""

from .program import app, main

__all__ = ["app", "main"]
