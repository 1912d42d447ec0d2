"""The networks. They know nothing of diffusion, data or files."""
