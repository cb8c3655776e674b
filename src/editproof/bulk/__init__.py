"""`editproof bulk`: any number of photos, from anywhere that fsspec reads to anywhere that it writes."""
