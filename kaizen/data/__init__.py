"""From raw images to batches of augmented views."""
