"""The page: what is where on it, and which function answers which button."""

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aa_jax.diffusion.samplers import SAMPLERS
from aa_jax.models.config import needed
from aa_jax.pose.retarget import METHODS
from aa_jax.web import examples, job
from aa_jax.web.job import Job, Request, Result
from aa_jax.web.studio import Studio
from aa_jax.web.uploads import KEYPOINT_SUFFIXES, POSE_SUFFIXES, Limits

# Seconds between the visits of what clears up, and those that a file is kept.
CLEAR_EVERY, KEPT = 600, 3600
BUNDLED, UPLOAD = "Bundled motion", "Upload"
WINDOWS = ("paper", "uniform", "triangular", "shifted", "moore")

# Fonts of the visitor's machine: nothing is fetched from elsewhere.
THEME = gr.themes.Default(primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
# Small videos are shown pixel by pixel, not blurred.
STYLE = """
.gradio-container { max-width: 1280px !important; margin: auto; }
#result video { object-fit: contain; image-rendering: pixelated; }
.caption { text-align: center; color: var(--body-text-color-subdued); }
"""
# Browsers let a page play by itself only what is mute. (These events do not bubble, but can be captured.)
PLAY = """<script>
document.addEventListener("loadedmetadata", ({ target }) => { target.muted = true; target.play(); }, true);
</script>"""
POLICY = "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
INTRODUCTION = """# aa_jax
An image of a character and a sequence of poses go in, a video of that character moving through those poses comes out.
Animate people only with their consent, and say that a video is generated."""


def build(studio: Studio) -> gr.Blocks:
    """The page of one model."""
    with gr.Blocks(title="aa_jax", analytics_enabled=False, delete_cache=(CLEAR_EVERY, KEPT)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(min_width=320):
                fields = _reference(studio)
            with gr.Column(min_width=320):
                fields |= _pose()
                shown = gr.Video(
                    label="The pose", autoplay=True, loop=True, interactive=False, height=220, buttons=[],
                    elem_id="shown_pose",
                )  # fmt: skip
                fields |= _options(studio)
            with gr.Column(min_width=320):
                button = gr.Button("Animate", variant="primary", size="lg", elem_id="animate")
                status = gr.Markdown(elem_id="status")
                video = gr.Video(
                    label="Animation", autoplay=True, loop=True, interactive=False, height=380, buttons=[],
                    elem_id="result",
                )  # fmt: skip
                beside = gr.Video(
                    show_label=False,
                    autoplay=True,
                    loop=True,
                    interactive=False,
                    buttons=[],
                    height=170,
                    elem_id="beside",
                )
                gr.Markdown("Character, pose and animation", elem_classes="caption")
                download = gr.DownloadButton("Download MP4", interactive=False, elem_id="download")

        def animate(values: Mapping[Any, Any], progress: gr.Progress = gr.Progress()) -> Iterator[tuple]:  # noqa: B008
            # In parts, each of which the page waits for: a visitor who leaves it gives up the place in the line.
            with _explained():
                request = _request(fields, values)
                told = _asked(studio.check(request))
                turn = studio.turns.join()
            with turn:
                while ahead := turn.wait(1):
                    yield gr.skip(), gr.skip(), gr.skip(), f"{told} Waiting: {ahead} before yours."
                yield gr.skip(), gr.skip(), gr.skip(), told
                with _explained():
                    result, checked = studio.animate(request, turn, _reporter(progress))
            yield result.video, result.beside, gr.update(value=result.video, interactive=True), _done(result, checked)

        # The studio counts who waits.
        button.click(
            animate, set(fields.values()), [video, beside, download, status], show_progress_on=video,
            concurrency_limit=None, api_visibility="private",
        )  # fmt: skip
        _preview(page, studio, fields, shown)
    return page


def launch(page: gr.Blocks, host: str, port: int, limits: Limits, *, wait: bool = True) -> None:
    """Serve the page, until interrupted if it is to `wait`."""
    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=f"{limits.upload_mb}mb",
        theme=THEME,
        css=STYLE,
        head=PLAY,
        app_kwargs={"middleware": [Middleware(_OwnContentOnly)]},
        footer_links=[],
        run_history=False,
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        quiet=True,
        inbrowser=False,
        prevent_thread_lock=True,
    )
    print(f"open {page.local_url}", flush=True)
    if wait:
        page.block_thread()


class _OwnContentOnly:
    """Tells browsers to load and send nothing beyond this server, whatever a component of the page would like to."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _reference(studio: Studio) -> dict[str, Any]:
    first = next(iter(examples.CHARACTERS))
    reference = gr.Image(
        value=str(examples.picture(first)), label="Character", type="filepath", sources=["upload", "clipboard"],
        height=320, buttons=[], elem_id="reference",
    )  # fmt: skip
    # The file as it is: whether it is an image is checked where all else is, and told in the same way.
    reference.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    gallery = gr.Dataset(
        label="Examples, new to the model that comes with aa_jax", components=[gr.Image(visible=False)], type="index",
        samples=[[str(examples.picture(name))] for name in examples.CHARACTERS],
    )  # fmt: skip
    with gr.Accordion("Fit the pose to the character", open=False):
        retarget = gr.Radio(
            METHODS, value="bones", label="Retarget", elem_id="retarget",
            info="affine: its size and place; bones: its build too. Takes keypoints of the pose and of the character.",
        )  # fmt: skip
        reference_pose = gr.File(
            value=str(examples.keypoints(first)), label="Keypoints of the character's image (.npz, .json)",
            file_types=list(KEYPOINT_SUFFIXES), height=90, elem_id="reference_pose",
        )  # fmt: skip

    def choose(index: int) -> tuple[str, str, str]:
        name = list(examples.CHARACTERS)[index]
        return str(examples.picture(name)), str(examples.keypoints(name)), "bones"

    chosen = [reference, reference_pose, retarget]
    gallery.click(choose, gallery, chosen, queue=False, show_progress="hidden", api_visibility="private")

    def check(file: str | None) -> None:
        with _explained():
            studio.check_reference(Path(file or ""))

    reference.upload(check, reference, concurrency_limit=None, show_progress="hidden", api_visibility="private")
    # Another image's keypoints are not this one's.
    gr.on(
        [reference.upload, reference.clear], lambda: (None, "none"), None, chosen[1:], queue=False,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return {"reference": reference, "reference_pose": reference_pose, "retarget": retarget}


def _pose() -> dict[str, Any]:
    kind = gr.Radio(
        [BUNDLED, UPLOAD], value=BUNDLED, label="Pose", elem_id="kind",
        info="A drawn skeleton (a video, or its images), or keypoints (.npz; OpenPose, DisCo or MediaPipe JSON).",
    )  # fmt: skip
    motion = gr.Dropdown(list(examples.MOTIONS), label="Motion", elem_id="motion")
    files = gr.File(
        label="Video, images or keypoints", file_count="multiple", file_types=list(POSE_SUFFIXES), height=140,
        visible=False, elem_id="pose",
    )  # fmt: skip
    return {"kind": kind, "motion": motion, "files": files}


def _options(studio: Studio) -> dict[str, Any]:
    inference, limits = studio.config.inference, studio.limits
    motion = needed(studio.config.denoising_unet, "denoising UNet").motion
    longest = motion.max_length if motion else inference.window_length
    multiple = studio.config.downscale
    fields = {
        "frames": gr.Slider(
            1, limits.frames, min(inference.window_length, limits.frames), step=1, label="Frames, at most",
            info="From the start of the pose.", elem_id="frames",
        ),
        "steps": gr.Slider(1, limits.steps, inference.num_inference_steps, step=1, label="Denoising steps"),
        "guidance_scale": gr.Slider(
            1, 10, inference.guidance_scale, step=0.1, label="Guidance scale", info="1 switches guidance off."
        ),
        "seed": gr.Number(42, label="Seed", precision=0),
    }  # fmt: skip
    with gr.Accordion("More", open=False):
        with gr.Row():
            about = f"A multiple of {multiple}."
            fields["height"] = gr.Number(inference.height, label="Height", precision=0, info=about, min_width=120)
            fields["width"] = gr.Number(inference.width, label="Width", precision=0, info=about, min_width=120)
        fields["resize"] = gr.Radio(
            ["crop", "letterbox", "stretch"], value="crop", label="Image or pose of another shape than the video"
        )
        fields["fps"] = gr.Number(0, label="Frames per second", info="0: the pose's.")
        fields["sampler"] = gr.Dropdown(list(SAMPLERS), value="ddim", label="Sampler")
        with gr.Row():
            fields["windows"] = gr.Dropdown(WINDOWS, value=inference.windows, label="Windows", min_width=120)
            fields["window_length"] = gr.Slider(
                1, longest, inference.window_length, step=1, label="Frames of a window", min_width=120
            )
        with gr.Row():
            about = "Where JSON does not say."
            fields["pose_height"] = gr.Number(
                0, label="Height of the pose's images", precision=0, info=about, min_width=120
            )
            fields["pose_width"] = gr.Number(
                0, label="Width of the pose's images", precision=0, info=about, min_width=120
            )
    return fields


def _preview(page: gr.Blocks, studio: Studio, fields: Mapping[str, Any], shown: gr.Video) -> None:
    """Show the pose whenever another is chosen."""
    kind, motion, files = (fields[name] for name in ("kind", "motion", "files"))

    def choose(kind: str) -> tuple:
        return gr.update(visible=kind == BUNDLED), gr.update(visible=kind == UPLOAD)

    def show(values: Mapping[Any, Any]) -> Path | None:
        pose = _pose_files(fields, values)
        with _explained():
            return studio.show_pose(pose, _pose_size(fields, values)) if pose else None

    options = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    kind.change(choose, kind, [motion, files], **options)
    read = {kind, motion, files, fields["pose_height"], fields["pose_width"]}
    gr.on([page.load, kind.change, motion.change, files.change], show, read, shown, **options)


def _request(fields: Mapping[str, Any], values: Mapping[Any, Any]) -> Request:
    """What the visitor asks for, by the values of the page's fields."""
    value = {name: values[field] for name, field in fields.items()}
    for name in ("height", "width", "seed", "frames", "steps"):
        if value[name] is None:
            raise ValueError(f"there is no number for {name}: enter one")
    numbers: dict[str, Any] = {
        name: int(value[name]) for name in ("height", "width", "seed", "frames", "steps", "window_length")
    }
    return Request(
        reference=_path(value["reference"]),
        reference_pose=_path(value["reference_pose"]) if value["retarget"] != "none" else None,
        pose=_pose_files(fields, values),
        pose_size=_pose_size(fields, values),
        fps=value["fps"] or None,
        **numbers,
        **{name: value[name] for name in ("guidance_scale", "sampler", "windows", "resize", "retarget")},
    )


def _pose_files(fields: Mapping[str, Any], values: Mapping[Any, Any]) -> list[Path]:
    if values[fields["kind"]] == BUNDLED:
        return [examples.keypoints(values[fields["motion"]])]
    return [Path(file) for file in values[fields["files"]] or []]


def _pose_size(fields: Mapping[str, Any], values: Mapping[Any, Any]) -> tuple[int, int] | None:
    height, width = values[fields["pose_height"]], values[fields["pose_width"]]
    return (int(height), int(width)) if height and width else None


def _path(file: str | None) -> Path | None:
    return Path(file) if file else None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Errors of the block become messages on the page."""
    try:
        yield
    except Exception as error:
        message = job.explain(error)
        if message is None:
            logging.getLogger(__name__).exception("an animation failed")
            message = "the animation failed, and not by your mistake: the server's log says how"
        raise gr.Error(message, duration=None, print_exception=False) from error


def _reporter(progress: gr.Progress) -> Callable[[int, int], None]:
    """What tells the page how far an animation is. The steps are reported by a thread of the device's, to which the
    visitor is not known but by this context."""
    progress(0, desc="Preparing")
    context = contextvars.copy_context()

    def report(done: int, steps: int) -> None:
        context.run(progress, (done, steps), desc="Denoising")

    return report


def _asked(checked: Job) -> str:
    height, width = checked.drawn.shape[1:3]
    return (
        f"{len(checked.drawn)} frames of {width}x{height} at {checked.fps:g} per second. "
        "The first of a size or length takes longer: it is compiled."
    )


def _done(result: Result, checked: Job) -> str:
    compiling = f", {result.compiling:.0f} of them compiling" if result.compiling >= 1 else ""
    lines = [
        f"{result.frames} frames of {result.width}x{result.height} at {result.fps:g} per second, "
        f"seed {checked.request.seed}: {result.seconds:.1f} s{compiling}.",
        *checked.notes,
    ]
    return "\n\n".join(lines)
