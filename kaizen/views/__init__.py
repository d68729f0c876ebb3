"""From rows of shards to augmented views on the device. No networks, and nothing that writes."""
