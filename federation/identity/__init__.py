"""Who signs what: keys, envelopes, the membership roll, node credentials, consents. No I/O; time comes in as a parameter."""
