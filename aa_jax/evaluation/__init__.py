"""Scores that others can reproduce: which clips, which metrics, and everything that was chosen, written beside them."""
