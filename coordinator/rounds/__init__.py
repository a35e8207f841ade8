"""Drives the collector's machine of each job: events into the store, instructions out, sums from the spool."""
