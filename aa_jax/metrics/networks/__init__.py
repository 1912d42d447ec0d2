"""The published networks that metrics are taken with, channels last, inference only."""
