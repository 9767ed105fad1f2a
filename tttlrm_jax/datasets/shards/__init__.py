"""Scenes packed into array_record shards: records, builder, reader."""
