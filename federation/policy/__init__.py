"""A lab's rules: what its node may take part in. Closed vocabulary, deny by default, every reason in words."""
