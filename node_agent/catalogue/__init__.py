"""The lab's data sets: what each holds, what of that is published, and which version a consent is about."""
