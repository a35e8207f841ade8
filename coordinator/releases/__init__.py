"""Builds the release of a finished job from what its members signed, and keeps it among the blobs."""
