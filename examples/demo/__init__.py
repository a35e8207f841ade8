"""`make demo`: five members, one coordinator, ten secure rounds on real scans, one node lost and found, a verified release."""
