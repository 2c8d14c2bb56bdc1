"""The steps of `index`: plan, train, build shards, measure recall; and compaction."""
