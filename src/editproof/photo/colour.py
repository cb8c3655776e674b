"""Colours of any file as 8-bit RGB: sRGB, or with a profile of three primaries and curves.

Which colours a file means is said, in this order, by ITU-T H.273 numbers (PNG's cICP, the nclx of HEIC and AVIF), by a
profile, or by PNG's sRGB, gAMA and cHRM (PNG, third edition, 4.3). A curve other than sRGB's is converted, primaries
other than sRGB's become a profile, and high dynamic range is refused.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from editproof.errors import UserError
from editproof.photo import icc

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue
PRIMARIES = {  # of H.273: those nearly sRGB's are taken for them
    **dict.fromkeys((1, 2, 5, 6, 7), SRGB),
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (0.3127, 0.3290, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
GAMMAS = {**dict.fromkeys((1, 2, 4, 6, 13, 14, 15), 1 / 2.2), 5: 1 / 2.8, 8: 1.0}  # of H.273's transfer functions
COLOURS = "\0colours"  # of Pillow's info: what a file says of its colours; no file's text can be called so
HDR = {16: "PQ", 18: "HLG"}
LOWEST_GAMMA, HIGHEST_GAMMA = 0.2, 2.5
NEAR_GAMMA, NEAR_POINT = 0.02, 0.004  # what is taken for sRGB's
ALLOWED = "allowed: sRGB, Display P3, Adobe RGB or another standard range of 8 or 16 bits"


@dataclass(frozen=True)
class Said:
    """What a file says of its colours beside a profile."""

    gamma: float | None = None  # of the file, as PNG has it: 1 is linear, 1/2.2 about sRGB
    points: tuple[float, ...] | None = None  # x and y of white, red, green, blue
    before_profile: bool = False  # whether it counts more than a profile
    bits: int = 16  # of the numbers of a deep grey picture, which go up to 2**bits - 1
    inverted: bool = False  # whether the largest of these is black


def of_numbers(primaries: int, transfer: int, name: str) -> Said:
    """What H.273's numbers mean. Raises UserError for high dynamic range, and for numbers that are not known here."""
    if transfer in HDR:
        raise UserError(f"{name} has a high dynamic range ({HDR[transfer]}), which results cannot hold; {ALLOWED}")
    if primaries not in PRIMARIES or transfer not in GAMMAS:
        raise UserError(
            f"{name} has unknown colours (primaries {primaries}, transfer {transfer} of ITU-T H.273); {ALLOWED}"
        )
    return Said(GAMMAS[transfer], PRIMARIES[primaries], (primaries, transfer) != (2, 2))


def of_chunks(gamma: float | None, points: tuple[float, ...] | None) -> Said:
    """What PNG's gAMA and cHRM mean; what cannot be is taken for nothing."""
    if gamma is not None and not LOWEST_GAMMA <= gamma <= HIGHEST_GAMMA:
        gamma = None
    try:
        if points is not None and icc.clean_profile(icc.make_profile(points)) is None:
            points = None
    except (ArithmeticError, ValueError, struct.error):  # no colours: singular, or out of range
        points = None
    return Said(gamma, points)


def to_rgb(image: Image.Image, name: str = "picture") -> tuple[Image.Image, bytes | None]:
    """An opened picture, as it lies in its file, as 8-bit RGB or RGBA, and its profile, which is none for sRGB.

    Pictures in CMYK and Lab, grey ones, and those whose profile is not three primaries and curves become sRGB by way
    of their profile; grey ones have three equal channels. Raises UserError for high dynamic range.
    """
    said, profile = image.info.get(COLOURS, Said()), image.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) and icc.space(profile) and not said.before_profile else b""
    if profile and (code := icc.transfer_code(profile)) in HDR:
        of_numbers(1, code or 0, name)
    alpha = None
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would cut off at 255
        deep = np.asarray(image, dtype=np.uint16) << (16 - said.bits)
        deep = 65535 - deep if said.inverted else deep
        if isinstance(image.info.get("transparency"), int):
            alpha = Image.fromarray(np.where(deep == image.info["transparency"], 0, 255).astype(np.uint8))
        image = Image.fromarray(_curve(said.gamma, 65536)[deep] if _other_gamma(said.gamma) and not profile
                                else (deep >> 8).astype(np.uint8))  # fmt: skip
        said = Said(None, said.points)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("LA", "L"):
        alpha = image.getchannel("A") if image.mode == "LA" else alpha or _key(image)
        grey = image.convert("L") if image.mode == "LA" else image
        return _grey(grey, alpha, said, profile), None
    if image.mode in ("LAB", "CMYK", "YCbCr") and (image.mode == "LAB" or profile[16:20] == b"CMYK"):
        return _converted(image, profile), None
    rgb = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if profile[16:20] == b"RGB ":
        kept = icc.clean_profile(profile)
        return (rgb, kept) if kept is not None else (_converted(rgb, profile), None)
    if _other_gamma(said.gamma):
        channels = [Image.fromarray(_curve(said.gamma, 256)[np.asarray(c)]) for c in rgb.split()[:3]]
        rgb = Image.merge(rgb.mode, [*channels, *rgb.split()[3:]])
    other = said.points is not None and max(abs(a - b) for a, b in zip(said.points, SRGB, strict=True)) > NEAR_POINT
    return rgb, icc.make_profile(said.points) if other and said.points is not None else None


def _key(image: Image.Image) -> Image.Image | None:
    """The transparency of a grey picture one of whose levels is transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return None
    return Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))


def _grey(grey: Image.Image, alpha: Image.Image | None, said: Said, profile: bytes) -> Image.Image:
    """A grey picture in sRGB's curve, as RGB or RGBA of equal channels."""
    if profile[16:20] in (b"GRAY", b"RGB "):
        source = grey if profile[16:20] == b"GRAY" else grey.convert("RGB")
        grey = _converted(source, profile).getchannel("G")
    elif _other_gamma(said.gamma):
        grey = Image.fromarray(_curve(said.gamma, 256)[np.asarray(grey)])
    return Image.merge("RGB", [grey] * 3) if alpha is None else Image.merge("RGBA", [grey, grey, grey, alpha])


def _other_gamma(gamma: float | None) -> bool:
    return gamma is not None and abs(gamma - 1 / 2.2) > NEAR_GAMMA


def _curve(gamma: float | None, levels: int) -> np.ndarray:
    """For each level of a file with this gamma, the level of sRGB's curve, 0 to 255."""
    linear = np.linspace(0, 1, levels) ** (1 / (gamma or 1 / 2.2))
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """RGB (RGBA) in sRGB; where the profile cannot be used, as Pillow converts without one."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    try:
        source = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert converted is not None
    except (ImageCms.PyCMSError, OSError):
        converted = colours.convert("RGB")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
