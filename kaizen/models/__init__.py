"""Networks: backbones, heads, and how they are initialised and kept in full precision."""
