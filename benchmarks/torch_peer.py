"""The same system in PyTorch: diffusers' and transformers' networks, whose attention sees the reference through
attention processors, with our weights and our economies.

Reference keys and values are projected once, the unconditional half attends to its own tokens only, cross-attention to
the one image token is its constant. Only ours computes the layers before the first reference tokens once for both
halves of guidance (about 1 % of the work).
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F  # noqa: N812

from aa_jax.config import ModelConfig
from aa_jax.models.config import needed
from tools.convert_weights.export import declared_config
from tools.convert_weights.naming import torch_key, torch_shape
from tools.convert_weights.verify import motion_unet, pose_guider_in_pytorch

BLOCK = ".transformer_blocks.0"


class Peer:
    """An animation in PyTorch, from the same arrays that ours takes."""

    def __init__(
        self,
        config: ModelConfig,
        tensors: Callable[[str], Mapping[str, Any]],
        *,
        device: str,
        dtype: Any,
        compiled: bool = False,
    ):
        """`tensors` gives each network's, as in a model folder."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from diffusers.models.unets import unet_motion_model
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        self.config, self.device, self.dtype = config, device, dtype

        def state(name: str) -> dict[str, Any]:
            return {torch_key(key): self._tensor(key, np.asarray(tensor)) for key, tensor in tensors(name).items()}

        def fill(make: Callable[..., Any], name: str) -> Any:
            declared = {k: v for k, v in declared_config(getattr(config, name)).items() if not k.startswith("_")}
            with torch.device("meta"):
                model = make(declared)
            # What a ReferenceNet lacks comes after all that is used.
            own = state(name)
            own |= {key: torch.zeros(value.shape) for key, value in model.state_dict().items() if key not in own}
            model.load_state_dict(own, strict=True, assign=True)
            return model.to(device, dtype).eval()

        self.pose_guider = state("pose_guider")
        self.vae = fill(lambda declared: AutoencoderKL(**declared), "vae")
        self.reference_unet = fill(lambda declared: UNet2DConditionModel(**declared), "reference_unet")
        # Not filled by `fill`: transformers makes position numbers in the constructor.
        clip = {k: v for k, v in declared_config(config.image_encoder).items() if k != "architectures"}
        self.image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**clip))
        self.image_encoder.load_state_dict(state("image_encoder"), strict=True, assign=True)
        self.image_encoder = self.image_encoder.to(device, dtype).eval()
        self.unet = motion_unet(needed(config.denoising_unet, "denoising UNet"), state("denoising_unet"))
        self.unet = self.unet.to(device, dtype).eval()
        self.pose: Any = None
        self.unet.conv_in.register_forward_hook(lambda _module, _inputs, output: output + self.pose)
        for network in (self.vae, self.reference_unet, self.unet):
            network.to(memory_format=torch.channels_last)
        self.run_unet, self.run_decoder = self._evaluate, self._decode
        if compiled:
            # It tells its log of sizes that do not halve evenly, which would cut the program in two.
            unet_motion_model.logger = types.SimpleNamespace(info=lambda *_: None)
            self.run_unet, self.run_decoder = (compile_for(device, each) for each in (self._evaluate, self._decode))

    def _tensor(self, key: str, values: np.ndarray) -> Any:
        """In PyTorch's layout, which the device makes."""
        there = torch.from_numpy(values).to(self.device)
        if key.endswith(".kernel"):
            there = there.permute(1, 0) if there.ndim == 2 else there.permute(3, 2, 0, 1)
        assert tuple(there.shape) == torch_shape(key, values.shape)
        return there.contiguous().to(self.dtype)

    def __call__(
        self,
        pixels: np.ndarray,
        clip_pixels: np.ndarray,
        pose_pixels: np.ndarray,
        noise: np.ndarray,
        tables: Any,
        guidance: float,
        *,
        frame_batch: int = 4,
    ) -> np.ndarray:
        """Animate.

        Args:
          pixels: the reference as the VAE takes it, (1, h, w, 3).
          clip_pixels: the same as the image encoder takes it.
          pose_pixels: drawn poses as the pose guider takes them, (t, h, w, 3).
          noise: initial, (t, h, w, c).
          tables: of a `DDIM` sampler for a schedule that predicts v.
          guidance: its scale, above 1.
          frame_batch: frames that the pose guider and the VAE take at once.

        Returns:
          The video, uint8.
        """
        assert tables.prediction_type == "v_prediction"
        with torch.inference_mode():
            self._see(self._put(pixels), self._put(clip_pixels), len(noise))
            poses = self._put(pose_pixels).split(frame_batch)
            guider = needed(self.config.pose_guider, "pose guider")
            features = torch.cat([pose_guider_in_pytorch(guider, self.pose_guider, part) for part in poses])
            self.pose = features.repeat(2, 1, 1, 1)
            x = self._put(noise, torch.float32)
            columns = (tables.timesteps, tables.alpha, tables.sigma, tables.next_alpha, tables.next_sigma)
            for timestep, *row in zip(*(np.asarray(column).tolist() for column in columns), strict=True):
                alpha, sigma, next_alpha, next_sigma = row
                time = torch.full((1,), timestep, device=self.device)
                plain, seeing = self.run_unet(x.to(self.dtype), time).float().chunk(2)
                v = plain + guidance * (seeing - plain)
                x = next_alpha * (alpha * x - sigma * v) + next_sigma * (alpha * v + sigma * x)
            parts = [self.run_decoder(part).cpu() for part in x.split(frame_batch)]
            return torch.cat(parts).permute(0, 2, 3, 1).numpy()

    def _put(self, array: np.ndarray, dtype: Any = None) -> Any:
        """Images on the device, channels first."""
        there = torch.from_numpy(np.ascontiguousarray(array)).to(self.device).permute(0, 3, 1, 2)
        return there.to(dtype or self.dtype).contiguous(memory_format=torch.channels_last)

    def _see(self, pixels: Any, clip_pixels: Any, frames: int) -> None:
        """Give the denoising UNet the reference."""
        embedding = self.image_encoder(clip_pixels).image_embeds[:, None]
        latents = self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor
        bank: dict[str, Any] = {}

        def keep(site: str) -> Callable[..., None]:
            return lambda _module, _inputs, output: bank.update({site: output})

        hooks = [
            module.register_forward_hook(keep(name.removesuffix(f"{BLOCK}.norm1")))
            for name, module in self.reference_unet.named_modules()
            if name.endswith(f"{BLOCK}.norm1")
        ]
        self.reference_unet(latents, 0, embedding)
        for hook in hooks:
            hook.remove()
        context = torch.cat([torch.zeros_like(embedding), embedding])
        install_processors(self.unet, bank, context, frames)
        self.context = context.repeat_interleave(frames, 0)

    def _evaluate(self, x: Any, time: Any) -> Any:
        """Both halves' predictions, the unconditional one's first: (2 t, c, h, w)."""
        rows = torch.stack([x, x]).transpose(1, 2)
        return self.unet(rows, time, self.context).sample.transpose(1, 2).flatten(0, 1)

    def _decode(self, x: Any) -> Any:
        """Latents to uint8 frames."""
        frames = self.vae.decode(x.to(self.dtype) / self.vae.config.scaling_factor).sample
        return ((frames.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def compile_for(device: str, function: Callable[..., Any]) -> Any:
    """`torch.compile` for a GPU, for fixed shapes, of which one function may see many; elsewhere as far as it goes
    without a compiler, to see that it can be traced."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(function, dynamic=False, backend="inductor" if device == "cuda" else "aot_eager")


def install_processors(model: Any, bank: Mapping[str, Any], context: Any, frames: int) -> None:
    """Give the spatial attentions of a UNetMotionModel the reference, and the economies that ours has; those that it
    was given before see the new one, so that what was compiled of them stays.

    Args:
      bank: by attention site, the reference's tokens (1, k, c).
      context: of the unconditional and of the conditional half, (2, 1, c).
      frames: of a clip.
    """
    for name, feature in bank.items():
        block = model.get_submodule(f"{name}{BLOCK}")
        if not isinstance(block.attn1.processor, WithReference):
            block.attn1.set_processor(WithReference())
            block.attn2.set_processor(Constant())
        block.attn1.processor.see(block.attn1, feature)
        block.attn2.processor.see(block.attn2, context, frames)


class WithReference:
    """Self-attention; the second half of the rows attends to the reference's keys and values too."""

    def see(self, attention: Any, feature: Any) -> None:
        with torch.inference_mode():
            self.reference = [self.split(attention, layer(feature)) for layer in (attention.to_k, attention.to_v)]

    @staticmethod
    def split(attention: Any, x: Any) -> Any:
        return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    def __call__(self, attention: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        layers = (attention.to_q, attention.to_k, attention.to_v)
        query, key, value = (self.split(attention, layer(hidden_states)) for layer in layers)
        half = len(query) // 2
        plain = F.scaled_dot_product_attention(query[:half], key[:half], value[:half])
        shared = [x.expand(half, -1, -1, -1) for x in self.reference]
        joined = [torch.cat([own[half:], ref], 2) for own, ref in zip((key, value), shared, strict=True)]
        out = torch.cat([plain, F.scaled_dot_product_attention(query[half:], *joined)])
        return attention.to_out[0](out.transpose(1, 2).flatten(2))


class Constant:
    """Cross-attention to one token, computed once."""

    def see(self, attention: Any, context: Any, frames: int) -> None:
        with torch.inference_mode():
            self.value = attention.to_out[0](attention.to_v(context)).repeat_interleave(frames, 0)

    def __call__(self, attention: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        return self.value.expand(-1, hidden_states.shape[1], -1)
