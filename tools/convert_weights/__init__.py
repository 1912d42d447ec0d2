"""Published PyTorch weights to model folders of aa_jax, and back.

sources    read weight files: PyTorch's, safetensors, folders of diffusers and transformers
naming     module path <-> PyTorch key, and array layouts
ldm        names of the original Stable Diffusion files
detect     which network a file holds, and its configuration, from keys, shapes and config files
families   what differs between published systems
convert    match, check, stream
export     the way back
report     what was converted
verify     PyTorch's result against the converted network's
"""
