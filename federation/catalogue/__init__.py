"""What labs tell of their data sets, and how a job finds those that it can use. No data, no counts: metadata alone."""
