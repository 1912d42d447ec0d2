"""Published numbers, as their tables print them, for a look beside one's own."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Column = Literal["ssim", "psnr", "psnr_uint8_overflow", "l1_disco", "lpips", "fvd", "fid_vid"]


@dataclasses.dataclass(frozen=True)
class Row:
    """What a table says of a method; a column it does not have is left out.

    Attributes:
      method: as printed.
      values: by column.
    """

    method: str
    values: Mapping[Column, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers of one test set.

    Attributes:
      source: where they are printed.
      warnings: why a number beside them may not mean the same.
      rows: in the order printed.
    """

    source: str
    warnings: tuple[str, ...]
    rows: tuple[Row, ...]


def _rows(columns: tuple[Column, ...], text: str) -> tuple[Row, ...]:
    """Lines of a method's name and its numbers, "-" for none."""
    rows = []
    for line in text.strip().splitlines():
        name, *numbers = (part.strip() for part in line.split("|"))
        values = {column: float(number) for column, number in zip(columns, numbers, strict=True) if number != "-"}
        rows.append(Row(name, values))
    return tuple(rows)


OVERFLOW = (
    "PSNR without a star is, as far as can be told, of differences that overflow 8 bits: compare it with "
    "psnr_uint8_overflow, and psnr with the starred column alone"
)
FRECHET = (
    "FVD and FID-VID depend on the number, length and size of the windows, which papers do not state: the same method "
    "is given 172 and 728 on test sets both called TikTok"
)

PUBLISHED = {
    "ubc-fashion": Table(
        source="UBC Fashion: Animate-X (arXiv 2410.10306), table 8; Animate Anyone's row is of its own paper",
        warnings=(OVERFLOW, FRECHET, "sizes and the network of LPIPS are not stated"),
        rows=_rows(
            ("ssim", "psnr_uint8_overflow", "psnr", "lpips", "fvd"),
            """
            MRAA             | .749 | -     | -     | .212 | 253.6
            TPSMM            | .746 | -     | -     | .213 | 247.5
            DPTN             | .907 | -     | 24.00 | .060 | 215.1
            NTED             | .890 | -     | 22.03 | .073 | 278.9
            PIDM             | .713 | -     | -     | .288 | 1197.4
            BDMM             | .918 | -     | 24.07 | .048 | 168.3
            DreamPose        | .885 | -     | -     | .068 | 238.7
            DreamPose w/o FT | .879 | 34.75 | -     | .111 | 279.6
            Animate Anyone   | .931 | 38.49 | -     | .044 | 81.6
            MimicMotion      | .928 | -     | 27.06 | .036 | 118.48
            UniAnimate       | .940 | 37.92 | 27.56 | .031 | 68.1
            Animate-X        | .940 | 36.73 | 27.78 | .030 | 79.4
            """,
        ),
    ),
    "tiktok": Table(
        source="TikTok, DisCo's test videos: the tables of Animate Anyone (arXiv 2311.17117), Champ, UniAnimate, "
        "Animate-X, DreamDance and Animate Anyone 2",
        warnings=(OVERFLOW, FRECHET, "some methods trained on more data than TikTok's own"),
        rows=_rows(
            ("l1_disco", "psnr_uint8_overflow", "psnr", "ssim", "lpips", "fvd"),
            """
            FOMM             | 3.61e-4 | -     | 17.26 | .648 | .335 | 405.22
            MRAA             | 3.21e-4 | -     | 18.14 | .672 | .296 | 284.82
            TPS              | 3.23e-4 | -     | 18.32 | .673 | .299 | 306.17
            DreamPose        | 6.88e-4 | 28.11 | 12.82 | .511 | .442 | 551.02
            DisCo            | 3.78e-4 | 29.03 | 16.55 | .668 | .292 | 292.80
            MagicAnimate     | 3.13e-4 | 29.16 | -     | .714 | .239 | 179.07
            Animate Anyone   | -       | 29.56 | -     | .718 | .285 | 171.90
            Champ            | 2.94e-4 | 29.91 | -     | .802 | .234 | 160.82
            MusePose         | 3.86e-4 | -     | 17.67 | .744 | .297 | 215.72
            MimicMotion      | 5.85e-4 | -     | 14.44 | .601 | .414 | 232.95
            ControlNeXt      | 6.20e-4 | -     | 13.83 | .615 | .416 | 326.57
            UniAnimate       | 2.66e-4 | 30.77 | 20.58 | .811 | .231 | 148.06
            VividPose        | -       | 29.83 | -     | .758 | .261 | 152.97
            DreamDance       | 2.89e-4 | 29.90 | -     | .798 | .233 | 153.07
            Animate-X        | 2.70e-4 | 30.78 | 20.77 | .806 | .232 | 139.01
            Animate Anyone 2 | -       | 29.82 | -     | .778 | .248 | 158.97
            """,
        ),
    ),
    "tiktok-335-340": Table(
        source="TikTok, sequences 335 to 340: MimicMotion (arXiv 2406.19680)",
        warnings=(FRECHET, "whether PSNR overflows is not stated; its values are those of a true one"),
        rows=_rows(
            ("fid_vid", "fvd", "ssim", "psnr"),
            """
            MagicAnimate         | 16.2 | 848 | .740 | 17.5
            MagicPose            | 13.3 | 916 | .776 | 18.8
            Moore-AnimateAnyone  | 12.4 | 728 | .758 | 18.7
            MuseV                | 14.6 | 754 | .766 | 17.6
            MimicMotion          | 9.3  | 594 | .795 | 20.1
            """,
        ),
    ),
}
