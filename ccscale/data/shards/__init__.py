"""Tar shards: their manifest, their indexes, what is in them."""
