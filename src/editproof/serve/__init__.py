"""`editproof serve`: photos over HTTP, for platforms (docs/operations.md)."""
