"""Clips to train and evaluate on: where they come from, and the pipeline that makes batches of them."""
