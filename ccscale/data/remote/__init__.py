"""Remote shards: byte ranges, with read-ahead, retries and a cache."""
