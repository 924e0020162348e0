"""What the bytes of a model say: digests and file headers, as pure functions."""
