"""The version, in a file of its own: reading a distribution's metadata at import would cost more than the import."""

__version__ = "0.2.0"
