"""Population-based training as a two-time-scale particle system: the library behind the book."""

__version__ = "0.1.0"
