"""Animate with a folder that `python -m aa_jax.export` wrote. Needs jax, numpy and safetensors, and not aa_jax.

    python -m aa_jax.export model/ --output served/ --num-frames 24 --height 784 --width 512
    python -m aa_jax.pose draw dance.npz --output drawn --height 784 --width 512
    python examples/serve.py served/ --reference person.png --poses drawn/ --output frames/

Reference and poses are PNGs of the export's size, and so are the frames; another reader of images can take the place
of the one below.
"""  # fmt: skip

import argparse
import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.flax import load_file

MAGIC = b"\x89PNG\r\n\x1a\n"


class Animation:
    """The programs and weights of a folder. A server makes one and calls it often: the first call compiles."""

    def __init__(self, folder: Path):
        self.manifest = json.loads((folder / "manifest.json").read_text())
        if self.manifest["format"] != 1:
            raise ValueError(f"{folder} has format {self.manifest['format']}, expected 1")
        self.weights = load_file(read_checked(folder, self.manifest["weights"]))
        self.programs = {}
        for name, facts in self.manifest["programs"].items():
            exported = export.deserialize(bytearray(read_checked(folder, facts).read_bytes()))
            self.programs[name] = jax.jit(exported.call)

    def __call__(self, reference: np.ndarray, poses: np.ndarray, seed: int = 42) -> np.ndarray:
        """Frames, float32 in [0, 1], of bytes: the reference (h, w, 3) and drawn poses (t, h, w, 3)."""
        values = {"weights": self.weights, "reference": reference, "poses": poses, "seed": np.uint32(seed)}
        for name in ("reference", "poses"):
            expected = tuple(self.manifest["arrays"][name]["shape"])
            if values[name].shape != expected or values[name].dtype != np.uint8:
                raise ValueError(f"{name} of shape {values[name].shape} given, expected uint8 {expected}")
        for name, facts in self.manifest["programs"].items():
            values[facts["output"]] = self.programs[name](*(values[argument] for argument in facts["inputs"]))
        return np.asarray(values["frames"])


def read_checked(folder: Path, facts: dict) -> Path:
    """The path of a file of the folder, which is as it was written."""
    with open(folder / facts["file"], "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
            raise ValueError(f"{folder / facts['file']} is not what was written: export the model again")
    return folder / facts["file"]


def read_png(path: Path) -> np.ndarray:
    """An RGB image of eight bits, uint8 (h, w, 3)."""
    content, chunks, place = path.read_bytes(), {}, len(MAGIC)
    while content[: len(MAGIC)] == MAGIC and place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        chunks[kind] = chunks.get(kind, b"") + content[place + 8 : place + 8 + length]
        place += 12 + length
    width, height, *form = struct.unpack(">IIBBBBB", chunks.get(b"IHDR", bytes(13)))
    if form != [8, 2, 0, 0, 0]:
        raise ValueError(f"{path} is no PNG of eight bits, RGB, without interlacing")
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    image, above = np.zeros((height, 3 * width), np.uint8), np.zeros(3 * width, np.uint8)
    for row, (method, *_), line in zip(image, lines, lines[:, 1:], strict=True):
        row[:] = above = unfilter(int(method), line, above)
    return image.reshape(height, width, 3)


def unfilter(method: int, line: np.ndarray, above: np.ndarray) -> np.ndarray:
    """A line of bytes from what was stored: its differences to what a method predicts from the left and from above."""
    if method == 0:
        return line
    if method == 1:
        return np.cumsum(line.reshape(-1, 3), axis=0, dtype=np.uint8).reshape(-1)
    if method == 2:
        return line + above
    done, up = [0, 0, 0], [0, 0, 0, *above.tolist()]
    for index, value in enumerate(line.tolist()):
        left, top, corner = done[index], up[index + 3], up[index]
        predicted = (left + top) // 2
        if method == 4:
            predicted = min((left, top, corner), key=lambda near: abs(left + top - corner - near))
        done.append(value + predicted & 255)
    return np.array(done[3:], np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    """The reverse, unfiltered."""
    height, width, _ = image.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    path.write_bytes(MAGIC + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ))  # fmt: skip


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what aa_jax.export wrote")
    parser.add_argument("--reference", required=True, type=Path, metavar="PNG")
    parser.add_argument("--poses", required=True, type=Path, metavar="DIR", help="of drawn poses: PNGs, by name")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=42, help="default 42")
    args = parser.parse_args()
    poses = np.stack([read_png(path) for path in sorted(args.poses.glob("*.png"))])
    frames = Animation(args.folder)(read_png(args.reference), poses, args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        write_png(args.output / f"{number:05}.png", np.round(frame * 255).astype(np.uint8))
    print(f"{len(frames)} frames written to {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
