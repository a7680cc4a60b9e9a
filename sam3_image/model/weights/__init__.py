"""Weights: where they are, whether they are whole and SAM 3's, and onto the device in one dtype."""
