"""Joint research tasks. Each folder holds a Flower app, a job document, a card, and how its data is prepared."""
