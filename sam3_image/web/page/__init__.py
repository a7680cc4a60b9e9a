"""The page to try the model by hand: its files, and the routes that its scripts call."""
