"""editproof: make photos resist AI editing, and measure honestly how well."""

__version__ = "0.1.0"
