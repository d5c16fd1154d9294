"""Tar shards: their manifest, indexes and contents."""
