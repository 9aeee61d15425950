"""Features at rest: in memory, and on disk as immutable hashed shards."""
