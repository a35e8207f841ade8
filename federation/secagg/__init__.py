"""The certified-cohort masked sum: encoding, masks, shares, and the member's and collector's machines, without I/O."""
