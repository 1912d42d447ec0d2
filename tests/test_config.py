import dataclasses
import json

import pytest

from aa_jax.config import InferenceConfig, ModelConfig
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, PoseGuiderConfig, UNetConfig, VAEConfig

WHOLE = ModelConfig(
    family="moore",
    denoising_unet=UNetConfig(motion=MotionConfig(max_length=24, mid_block=False), group_norm_over_frames=True),
    reference_unet=UNetConfig(),
    pose_guider=PoseGuiderConfig(),
    vae=VAEConfig(scaling_factor=0.1 + 0.2),
    image_encoder=CLIPVisionConfig(layer_norm_eps=1e-6),
    schedule=NoiseSchedule(prediction_type="v_prediction", beta_end=0.0120001),
    inference=InferenceConfig(bank_dtype="float16", guidance_scale=1 / 3, window_overlap=4),
)


@pytest.mark.parametrize("config", [ModelConfig(), WHOLE])
def test_json_round_trip_is_exact(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_field_is_written():
    data = WHOLE.to_dict()
    for field in dataclasses.fields(InferenceConfig):
        assert data["inference"][field.name] == getattr(WHOLE.inference, field.name)
    assert data["denoising_unet"]["block_out_channels"] == [320, 640, 1280, 1280]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(colour=1), "config has unknown field colour"),
        (
            lambda data: data["denoising_unet"]["motion"].update(heads=1),
            "config.denoising_unet.motion has unknown field heads",
        ),
        (lambda data: data.update(family="sora"), "config.family is 'sora', expected one of 'aa_jax'"),
        (
            lambda data: data["inference"].update(bank_dtype="int8"),
            "config.inference.bank_dtype is 'int8', expected one of 'float32'",
        ),
        (lambda data: data["inference"].update(height="784"), "config.inference.height is '784', expected int"),
        (lambda data: data["inference"].update(draw_face=1), "config.inference.draw_face is 1, expected bool"),
        (lambda data: data["inference"].update(height=True), "config.inference.height is True, expected int"),
        (lambda data: data["vae"].update(scaling_factor=None), "config.vae.scaling_factor is None, expected float"),
        (lambda data: data["vae"].update(block_out_channels=8), "config.vae.block_out_channels is 8, expected a list"),
        (lambda data: data["schedule"].update(beta_schedule="cubic"), "beta_schedule is 'cubic'"),
        (lambda data: data.update(schedule=3), "config.schedule is 3, expected an object"),
        (lambda data: data.update(format=2), "format 2, expected 1"),
        (lambda data: data.pop("format"), "format None"),
    ],
)
def test_bad_files(change, message):
    data = WHOLE.to_dict()
    change(data)
    with pytest.raises(ValueError, match=message) as caught:
        ModelConfig.from_dict(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "height is 0, expected at least 1"),
        ({"width": -8}, "width is -8, expected at least 1"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"window_overlap": 24}, "window_overlap is 24, expected 0 to 23"),
        ({"window_length": 0}, "window_length is 0"),
    ],
)
def test_inference_values_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        InferenceConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pose_guider": PoseGuiderConfig(out_channels=4)},
            "pose_guider gives 4 channels, but denoising_unet takes 320",
        ),
        (
            {"pose_guider": PoseGuiderConfig(architecture="paper")},
            "pose_guider gives 320 channels, but denoising_unet takes 4",
        ),
        ({"image_encoder": CLIPVisionConfig(output="pooler_output")}, "embeddings of 1024 channels"),
        ({"vae": VAEConfig(latent_channels=16)}, "latents of 16 channels"),
        ({"denoising_unet": UNetConfig(out_channels=8)}, "latents of 4 channels, but denoising_unet gives 8"),
        ({"reference_unet": UNetConfig(in_channels=8)}, "reference_unet has in_channels 8, but denoising_unet 4"),
        ({"reference_unet": UNetConfig(block_out_channels=(32, 64, 96, 96))}, "they must be the same"),
        ({"vae": VAEConfig(block_out_channels=(128, 256, 512))}, r"\(controlnet\) downscales by 8, but vae by 4"),
        (
            {"pose_guider": PoseGuiderConfig(block_out_channels=(16, 32, 96))},
            r"\(controlnet\) downscales by 4, but vae by 8",
        ),
        (
            {
                "pose_guider": PoseGuiderConfig(architecture="open", block_out_channels=(16, 32, 96)),
                "vae": VAEConfig(block_out_channels=(128, 256, 512)),
            },
            r"\(open\) downscales by 8, but vae by 4",
        ),
        ({"inference": InferenceConfig(height=100)}, "height is 100, expected a positive multiple of 8"),
        ({"inference": InferenceConfig(width=516)}, "width is 516, expected a positive multiple of 8"),
        (
            {"inference": InferenceConfig(window_length=25)},
            "window_length is 25, but the temporal layers have 24 positions",
        ),
    ],
)
def test_networks_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        dataclasses.replace(WHOLE, **changes)
    assert "\n" not in str(caught.value)


def test_sizes_are_multiples_of_the_vaes_downscale():
    odd = InferenceConfig(height=100, width=36)
    for levels, downscale in ((1, 1), (2, 2), (3, 4), (4, 8)):
        vae = VAEConfig(block_out_channels=(32,) * levels)
        assert vae.downscale == ModelConfig(vae=vae).downscale == downscale
        if levels < 4:
            assert ModelConfig(vae=vae, inference=odd).inference == odd
    guider = PoseGuiderConfig(block_out_channels=(16, 32, 96))
    fits = dataclasses.replace(WHOLE, vae=VAEConfig(block_out_channels=(32, 32, 32)), pose_guider=guider, inference=odd)
    assert fits.downscale == guider.downscale == 4
    assert ModelConfig().downscale == 8
    with pytest.raises(ValueError, match="height is 100, expected a positive multiple of 8, the pixels of a latent"):
        ModelConfig(inference=odd)
