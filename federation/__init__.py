"""The shared law: what every party of a federation must compute identically. No I/O, no clock, no torch."""
