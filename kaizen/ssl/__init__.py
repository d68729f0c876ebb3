"""Self-supervised methods, a file each: heads, loss, and what is updated after a step."""
