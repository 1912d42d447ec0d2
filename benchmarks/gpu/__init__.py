"""What aa_jax takes on a GPU: time, memory and arithmetic, part by part; see `benchmarks.gpu.__main__`."""
