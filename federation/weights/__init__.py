"""Weights as every member must hold them: states and their digests, flat differences, the deterministic outer step."""
