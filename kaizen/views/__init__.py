"""From shard rows to augmented views on the device. Nothing that writes."""
