"""The page: animating in a browser."""
