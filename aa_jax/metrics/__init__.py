"""Metrics of generated videos. They know nothing of our models, data or training."""
