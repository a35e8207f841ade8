"""The release of a finished job as files: made from what the members signed, and verified by anybody, offline, years later."""
