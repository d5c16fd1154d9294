"""Shards that are no local files: ranges of them, read ahead, tried again, kept in a cache."""
