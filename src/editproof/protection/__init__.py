"""Protecting photos: tensors, files and folders, with a report beside each result."""

from editproof.protection.apply import protect

__all__ = ["protect"]
