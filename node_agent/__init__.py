"""A lab's own guard and hands: consents, trains, masks, and dials out; it never listens to the federation."""
