# SPDX-License-Identifier: MIT
"""Picture files of every kind, made from a seed: those that Pillow writes, and by hand those it does
not. Each is a Picture: name, bytes, and how the decoded pixels are compared."""

import dataclasses
import io
import itertools
import struct
import subprocess
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
XMP = '<x:xmpmeta><rdf:Description %s/></x:xmpmeta>'


@dataclasses.dataclass
class Picture:
    name: str
    data: bytes
    like: bytes = None  # expected: this file as Pillow shows it; default: the file itself
    wide: str = ""  # Pillow shows 16 bits of grey cut off at 255: expected is their high byte ...
    most: int = 0  # ... a largest difference, and its reason
    reason: str = ""
    warning: str = ""


def noise(w, h, bands, seed=1):
    """A gradient with noise: every coefficient of a transform is in use."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    waves = [128 + 100 * np.sin((x * (i + 1) + y * (3 - i)) / 9) for i in range(bands)]
    grid = np.stack(waves, -1) + rng.normal(0, 12, (h, w, bands))
    return grid.clip(0, 255).astype(np.uint8)


def image(mode, w=61, h=43, seed=1):
    bands = {"1": 1, "L": 1, "P": 3, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    a = noise(w, h, bands, seed)
    if mode == "P":
        return Image.fromarray(a).quantize(61)
    if mode == "1":
        return Image.fromarray(a[..., 0]).convert("1")
    return Image.fromarray(a[..., 0] if bands == 1 else a, mode)


def saved(picture, fmt, **options):
    out = io.BytesIO()
    picture.save(out, fmt, **options)
    return out.getvalue()


def exif(orientation, kind=3, order="<", count=1):
    """A TIFF block with one tag: kind 1 byte, 3 short, 4 long."""
    value = struct.pack(order + {1: "BBBB", 3: "HH", 4: "I"}[kind],
                        *([orientation] + [0] * {1: 3, 3: 1, 4: 0}[kind]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return (head + struct.pack(order + "HHHI", 1, ORIENTATION, kind, count) + value
            + struct.pack(order + "I", 0))


# ---- JPEG ----

def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def segments(data):
    """Offsets of the segments up to the first scan's codes."""
    at, out = 2, []
    while True:
        out.append(at)
        marker, size = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])[0]
        at += 2 + size
        if marker == 0xDA:
            return out + [at]


def app1(block):
    return segment(0xE1, b"Exif\0\0" + block)


def app1_xmp(orientation):
    text = XMP % f'tiff:Orientation="{orientation}"'
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def insert(data, at, piece):
    return data[:at] + piece + data[at:]


def pillow_jpegs():
    for (w, h), quality, sampling, progressive in itertools.product(
            [(61, 43), (64, 48), (1, 1), (17, 3)], [30, 75, 96], [0, 1, 2], [False, True]):
        yield Picture(f"q{quality}_s{sampling}_p{progressive:d}_{w}x{h}.jpg",
                      saved(image("RGB", w, h), "JPEG", quality=quality, subsampling=sampling,
                            progressive=progressive))
    for mode, progressive in itertools.product(["L", "CMYK"], [False, True]):
        yield Picture(f"{mode}_p{progressive:d}.jpg",
                      saved(image(mode), "JPEG", progressive=progressive))
    yield Picture("rgb_kept.jpg", saved(image("RGB"), "JPEG", keep_rgb=True, subsampling=0))
    yield Picture("restart_blocks.jpg", saved(image("RGB"), "JPEG", restart_marker_blocks=3))
    yield Picture("restart_rows.jpg", saved(image("RGB"), "JPEG", restart_marker_rows=1))
    yield Picture("optimised.jpg", saved(image("RGB"), "JPEG", optimize=True, comment=b"hello"))
    yield Picture("profile.jpg", saved(image("RGB"), "JPEG", icc_profile=bytes(200000)))


FACTORS = ["111111", "211111", "221111", "121111", "411111", "141111", "412111", "421111", "241111",
           "222111", "221211", "222112", "212111", "112121", "112222", "311111", "131111", 
           "321111", "111121", "211121", "122111", "121112", "311131", "212211"]


def encoded_jpegs(encoder):
    """Sampling, coding and colour that Pillow does not write."""
    def encode(a, factors, *options):
        h, w, bands = a.shape
        return subprocess.run([encoder, str(w), str(h), str(bands), factors, *options],
                              input=a.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    rgb, cmyk = noise(61, 43, 3), noise(61, 43, 4)
    for factors, options in itertools.product(FACTORS, [[], ["progressive"], ["scans"]]):
        yield Picture("_".join(["factors", factors, *options]) + ".jpg",
                      encode(rgb, factors, *options))
    for factors in ("221111", "111111"):
        for options in (["arithmetic"], ["arithmetic", "progressive"], ["restart"], ["plain"],
                        ["rgb"], ["rgb", "plain"], ["restart", "scans"]):
            yield Picture("_".join(["coded", factors, *options]) + ".jpg",
                          encode(rgb, factors, *options))
    for factors in ("11111111", "22111122", "21111121"):
        for options in ([], ["ycck"], ["ycck", "progressive"], ["plain"]):
            yield Picture("_".join(["cmyk", factors, *options]) + ".jpg",
                          encode(cmyk, factors, *options))
    yield Picture("grey_22.jpg", encode(noise(61, 43, 1), "22"))
    yield Picture("grey_arithmetic.jpg", encode(noise(61, 43, 1), "11", "arithmetic"))


def odd_jpegs():
    """What cameras and programs write beside the standard: no pixel is lost."""
    clean = saved(image("RGB", 128, 96), "JPEG", quality=85)
    progressive = saved(image("RGB", 128, 96), "JPEG", progressive=True)
    *places, codes = segments(clean)
    for i, at in enumerate(places):
        for name, junk in (("zeros", bytes(3)), ("text", b"junk"), ("ff00", b"\xff\x00\x01"),
                           ("fill", b"\xff\xff\xff")):
            if at > 2 or name == "fill":
                yield Picture(f"stray_{name}_{i}.jpg", insert(clean, at, junk), like=clean)
    for name, end in (("ss0_se0", bytes(3)), ("ah_al", bytes([0, 63, 0x11]))):
        yield Picture(f"sos_{name}.jpg", clean[:codes - 3] + end + clean[codes:], like=clean)
    jfif = clean.index(b"JFIF\0") + 5
    for major, minor in ((2, 1), (0, 0), (3, 0), (1, 99)):
        yield Picture(f"jfif_{major}_{minor}.jpg",
                      clean[:jfif] + bytes([major, minor]) + clean[jfif + 2:], like=clean)
    for name, whole in (("", clean), ("progressive_", progressive)):
        yield Picture(f"{name}no_eoi.jpg", whole[:-2], like=whole)
        yield Picture(f"{name}no_eoi_trailer.jpg", whole[:-2] + b"SEFT" * 40, like=whole)
        yield Picture(f"{name}trailer.jpg", whole + b"SEFT" * 4000, like=whole)
        yield Picture(f"{name}two.jpg", whole + whole, like=whole)
        yield Picture(f"{name}video_behind.jpg", whole + b"\0\0\0\x18ftypmp42" + bytes(9999),
                      like=whole)
    yield Picture("adobe_transform_7.jpg",
                  insert(clean, 2, segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07")), like=clean)
    yield Picture("app14_short.jpg", insert(clean, 2, segment(0xEE, b"Adobe")), like=clean)
    yield Picture("icc_broken.jpg", insert(clean, 2, segment(0xE2, b"ICC_PROFILE\0\x09\x02xx")),
                  like=clean)


def turned_jpegs():
    plain = saved(image("RGB", 40, 24), "JPEG")
    first = segments(plain)
    comment, dqt = segment(0xFE, b"a comment"), plain[first[1]:first[2]]
    places = {"first": (2, b""), "after_comment": (2, comment), "after_dqt": (2, dqt),
              "after_app0": (first[1], b""), "last": (first[-2], b""),
              "after_xmp": (2, app1_xmp(1)), "after_other_app1": (2, segment(0xE1, b"other")),
              "after_many": (2, segment(0xE2, bytes(65000)) * 9)}
    for (name, (at, before)), o in itertools.product(places.items(), range(1, 9)):
        if o in (1, 3, 6, 8) or name == "first":
            yield Picture(f"exif{o}_{name}.jpg", insert(plain, at, before + app1(exif(o))))
    for o in (0, 9, 99, 65535):
        yield Picture(f"exif_bad_{o}.jpg", insert(plain, 2, app1(exif(o))), like=plain)
    for kind, order in itertools.product((1, 3, 4), "<>"):
        name = "little" if order == "<" else "big"
        yield Picture(f"exif_kind{kind}_{name}.jpg", insert(plain, 2, app1(exif(6, kind, order))))
    yield Picture("exif_two.jpg", insert(plain, 2, app1(exif(6)) + app1(exif(3))))
    yield Picture("exif_twice_prefixed.jpg", insert(plain, 2, app1(b"Exif\0\0" + exif(6))))
    yield Picture("exif_empty.jpg", insert(plain, 2, app1(b"")), like=plain)
    yield Picture("exif_noise.jpg", insert(plain, 2, app1(noise(9, 9, 3).tobytes())), like=plain)
    yield Picture("exif_and_xmp.jpg", insert(plain, 2, app1(exif(6)) + app1_xmp(3)))
    for o in range(1, 9):
        yield Picture(f"xmp{o}.jpg", insert(plain, 2, app1_xmp(o)))
    text = b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>6</tiff:Orientation>"
    yield Picture("xmp_element.jpg", insert(plain, 2, segment(0xE1, text)))


# ---- PNG ----

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]
BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def packed_rows(samples, depth):
    """Filter 0 before every row."""
    out = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            out += b"\0" + row.astype(">u2").tobytes()
        elif depth == 8:
            out += b"\0" + row.astype(np.uint8).tobytes()
        else:
            bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            out += b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    return out


def samples_of(w, h, depth, colour):
    bands, rng = BANDS[colour], np.random.default_rng(w * 31 + depth)
    most = 2**depth - 1
    values = noise(w, h, bands, depth).astype(int) * most // 255
    if depth == 16:
        values = (values & 0xFF00) | rng.integers(0, 256, values.shape)
    return values


def png(w, h, depth, colour, interlaced=False, before=b"", after=b"", samples=None, piece=1 << 30):
    samples = samples_of(w, h, depth, colour) if samples is None else samples
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    raw = b"".join(packed_rows(samples[y::dy, x::dx], depth) for x, y, dx, dy in passes
                   if samples[y::dy, x::dx].size)
    codes = zlib.compress(raw)
    palette = b""
    if colour == 3:
        palette = chunk(b"PLTE", noise(2**depth, 1, 3, 9).tobytes())
    idat = b"".join(chunk(b"IDAT", codes[i:i + piece]) for i in range(0, len(codes), piece))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + palette + before + idat + after + chunk(b"IEND", b"")


def transparency(depth, colour, samples):
    if colour == 3:
        return chunk(b"tRNS", bytes(range(0, 256, 3))[:2**depth - 1])
    key = samples[0, 0]
    return chunk(b"tRNS", b"".join(struct.pack(">H", int(v)) for v in key))


def written_pngs():
    kinds = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
             (4, 8), (4, 16), (6, 8), (6, 16)]
    sizes = [(1, 1), (3, 2), (5, 9), (61, 43)]
    for (colour, depth), (w, h), interlaced in itertools.product(kinds, sizes, (False, True)):
        name = f"c{colour}_d{depth}_i{interlaced:d}_{w}x{h}"
        wide = "L" if (colour, depth) == (0, 16) else ""
        yield Picture(name + ".png", png(w, h, depth, colour, interlaced), wide=wide)
        if colour in (0, 2, 3) and (w, h) == (61, 43) and depth < 16:
            samples = samples_of(w, h, depth, colour)
            trns = transparency(depth, colour, samples)
            like = None
            if colour == 0 and depth in (2, 4):  # Pillow compares the key to samples of 8 bits
                scaled = samples * (255 // (2**depth - 1))
                like = png(w, h, 8, 0, False, transparency(8, 0, scaled), samples=scaled)
            yield Picture(name + "_trns.png", png(w, h, depth, colour, interlaced, trns), like=like)


def pillow_pngs():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        for name, options in (("", {}), ("_small", {"compress_level": 9, "optimize": True}),
                              ("_stored", {"compress_level": 0})):
            yield Picture(f"{mode}{name}.png", saved(image(mode), "PNG", **options))
    for colours in (2, 4, 16, 256):
        p = image("RGB").quantize(colours)
        yield Picture(f"palette_{colours}.png", saved(p, "PNG"))
        yield Picture(f"palette_{colours}_index.png", saved(p, "PNG", transparency=1))
        yield Picture(f"palette_{colours}_alpha.png",
                      saved(p, "PNG", transparency=bytes(i * 7 % 256 for i in range(colours))))
    yield Picture("apng.png", saved(image("RGB"), "PNG", save_all=True,
                                    append_images=[image("RGB", seed=5)]))
    yield Picture("profile.png", saved(image("RGB"), "PNG", icc_profile=bytes(100000)))


def odd_pngs():
    clean = png(40, 24, 8, 2)
    def with_chunk(name, before=b"", after=b"", like=clean, **options):
        return Picture(name + ".png", png(40, 24, 8, 2, False, before, after), like=like, **options)
    bomb = zlib.compress(bytes(50_000_000), 9)
    yield with_chunk("text_5000", chunk(b"tEXt", b"k\0v") * 5000)
    yield with_chunk("text_behind", after=chunk(b"tEXt", b"k\0v") * 2000)
    yield with_chunk("text_long", chunk(b"tEXt", b"k\0" + bytes(3_000_000)))
    yield with_chunk("ztxt_bomb", chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb))
    yield with_chunk("itxt_bomb", chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb))
    yield with_chunk("iccp_bomb", chunk(b"iCCP", b"p\0\0" + bomb))
    yield with_chunk("text_crc", chunk(b"tEXt", b"k\0v", crc=1))
    yield with_chunk("unknown", chunk(b"vpAg", bytes(9)) + chunk(b"prVt", b""))
    yield with_chunk("gama", chunk(b"gAMA", struct.pack(">I", 10000)))
    yield with_chunk("suggested_palette", chunk(b"PLTE", bytes(7)))
    yield Picture("trailer.png", clean + b"trailer" * 99, like=clean)
    yield Picture("no_iend.png", clean[:-12], like=clean)
    yield Picture("idat_1.png", png(40, 24, 8, 2, piece=1), like=clean)
    yield Picture("idat_empty.png", png(40, 24, 8, 2, before=chunk(b"IDAT", b"")), like=clean)
    for depth, colours in ((1, 3), (2, 256), (4, 17), (4, 256), (8, 3)):
        few = samples_of(40, 24, depth, 3) % min(colours, 2**depth)
        plain = png(40, 24, depth, 3, samples=few)
        at = plain.index(b"PLTE") - 4
        size = struct.unpack(">I", plain[at:at + 4])[0]
        palette = chunk(b"PLTE", noise(colours, 1, 3).tobytes())
        rest = plain[at + 12 + size:]
        yield Picture(f"palette_{colours}_of_{2**depth}.png", plain[:at] + palette + rest)
        yield Picture(f"palette_{colours}_of_{2**depth}_trns.png",
                      plain[:at] + palette + chunk(b"tRNS", bytes(range(0, 256, 2))) + rest)
    codes = clean.index(b"IDAT")
    size = struct.unpack(">I", clean[codes - 4:codes])[0]
    yield Picture("idat_crc.png", insert(clean, codes + 4 + size, b"\1")[:-16] + clean[-16:],
                  like=clean, warning="checksum")


def blends():
    """Every value with every alpha."""
    value, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
    all_pairs = np.stack([value, 255 - value, value, alpha], -1)
    yield Picture("every_alpha.png", saved(Image.fromarray(all_pairs), "PNG"))
    yield Picture("every_alpha_grey.png", saved(Image.fromarray(all_pairs[..., 2:], "LA"), "PNG"))
    yield Picture("every_alpha.webp", saved(Image.fromarray(all_pairs), "WEBP", lossless=True,
                                            exact=True))


def raw_profile(block):
    text = block.hex()
    lines = "\n".join(text[i:i + 72] for i in range(0, len(text), 72))
    return f"\nexif\n{len(block):8}\n{lines}\n".encode()


def turned_pngs():
    for o in range(1, 9):
        xmp = (XMP % f'tiff:Orientation="{o}"').encode()
        pieces = {"exif": chunk(b"eXIf", exif(o)),
                  "exif_prefixed": chunk(b"eXIf", b"Exif\0\0" + exif(o)),
                  "profile_text": chunk(b"tEXt", b"Raw profile type exif\0"
                                        + raw_profile(b"Exif\0\0" + exif(o))),
                  "profile_packed": chunk(b"zTXt", b"Raw profile type exif\0\0"
                                          + zlib.compress(raw_profile(b"Exif\0\0" + exif(o)))),
                  "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
                  "xmp_packed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))}
        for name, piece in pieces.items():
            if o in (1, 6, 7) or name == "exif":
                yield Picture(f"{name}{o}.png", png(40, 24, 8, 6, before=piece))
        yield Picture(f"exif_behind{o}.png", png(40, 24, 8, 2, after=chunk(b"eXIf", exif(o))))


# ---- WebP, GIF, AVIF, PNM ----

LOSSY = "Pillow has a newer libwebp, whose rounding of YUV or of filters may differ by one step"


def webps():
    for (w, h), mode, options in itertools.product(
            [(61, 43), (1, 1), (16, 16)], ["RGB", "RGBA"],
            [{"lossless": True}, {"quality": 80}, {"quality": 10}, {"quality": 95, "method": 6},
             {"quality": 60, "alpha_quality": 20}, {"lossless": True, "exact": True}]):
        name = "_".join(f"{k}{v:d}" for k, v in options.items())
        lossy = "lossless" not in options
        yield Picture(f"{mode}_{name}_{w}x{h}.webp", saved(image(mode, w, h), "WEBP", **options),
                      most=2 * lossy, reason=LOSSY if lossy else "")
    for o in range(1, 9):
        yield Picture(f"exif{o}.webp", saved(image("RGB", 40, 24), "WEBP", lossless=True,
                                             exif=b"Exif\0\0" + exif(o)))
    for o in (1, 3, 8):
        yield Picture(f"xmp{o}.webp", saved(image("RGB", 40, 24), "WEBP", lossless=True,
                                            xmp=(XMP % f'tiff:Orientation="{o}"').encode()))
    frames = [image("RGBA", seed=i) for i in range(4)]
    for kind in ("RGB", "RGBA"):
        a, *more = (f.convert(kind) for f in frames)
        yield Picture(f"animated_{kind}.webp", saved(a, "WEBP", save_all=True, append_images=more,
                                                     lossless=True))
    yield Picture("profile.webp", saved(image("RGB"), "WEBP", lossless=True, icc_profile=bytes(9999)))
    yield Picture("trailer.webp", saved(image("RGB"), "WEBP", lossless=True) + b"behind" * 99)


def gifs():
    p = image("P")
    for name, options in (("plain", {}), ("flat", {"interlace": 0}), ("index", {"transparency": 3}),
                          ("comment", {"comment": b"x" * 999}), ("background", {"background": 5})):
        yield Picture(f"{name}.gif", saved(p, "GIF", **options))
    for w, h in ((1, 1), (1, 20), (300, 7), (16, 16)):
        for interlace in (0, 1):
            yield Picture(f"i{interlace}_{w}x{h}.gif", saved(image("P", w, h), "GIF",
                                                             interlace=interlace))
    yield Picture("grey.gif", saved(image("L"), "GIF"))
    yield Picture("bilevel.gif", saved(image("1"), "GIF"))
    yield Picture("rgba.gif", saved(image("RGBA"), "GIF"))
    yield Picture("animated.gif", saved(p, "GIF", save_all=True, append_images=[image("P", seed=4)]))
    for colours in (2, 3, 8, 200, 256):
        yield Picture(f"colours_{colours}.gif", saved(image("RGB").quantize(colours), "GIF"))
    whole = saved(image("P", 20, 10), "GIF")
    yield Picture("trailer.gif", whole + bytes(999))
    screen = struct.pack("<HH", 30, 20)
    yield Picture("part.gif", whole[:6] + screen + whole[10:])
    yield Picture("larger_than_screen.gif", whole[:6] + struct.pack("<HH", 7, 5) + whole[10:])


def pnms():
    for magic, most, (w, h) in itertools.product("23456", (1, 2, 6, 100, 255, 256, 1023, 65535),
                                                 ((7, 5), (1, 1), (33, 4))):
        if magic == "4" and most > 1:
            continue
        bands = 3 if magic in "36" else 1
        a = (noise(w, h, bands, most) / 255 * most).round().astype(int)
        head = f"P{magic}\n# made for a test\n{w} {h}\n" + ("" if magic == "4" else f"{most}\n")
        if magic == "4":
            body = np.packbits(a[..., 0].astype(np.uint8), axis=1).tobytes()
        elif magic in "23":
            body = " ".join(map(str, a.ravel())).encode() + b"\n"
        else:
            body = a.astype(">u2" if most > 255 else np.uint8).tobytes()
        wide = "L" if magic in "25" and most > 255 else ""
        yield Picture(f"p{magic}_{most}_{w}x{h}.pnm", head.encode() + body, wide=wide)
    like = b"P4 8 2\n" + bytes([0b10110001, 0b00001111])
    yield Picture("bits_without_space.pbm", b"P1 8 2 1011000100001111", like=like)
    yield Picture("bits_with_comment.pbm", b"P1\n8 2\n1011 0001 # x\n0000 1111\n", like=like)
    grey = b"P5 3 2 255\n" + bytes([1, 2, 3, 40, 50, 60])
    yield Picture("plain_spaces.pgm", b"P2\r\n3\t2\v255\r\n1 2\n\n3  40\f50 60", like=grey)
    yield Picture("comments.pgm", b"P5#a\n#b\n3 #c\n2\n#d\n255\n" + grey[-6:], like=grey)
    yield Picture("trailer.pgm", grey + b"more", like=grey)


def avifs():
    reason = "libheif and libavif turn YUV into RGB each in its own way"
    for mode, sampling in itertools.product(("RGB", "RGBA"), ("4:4:4", "4:2:0")):
        yield Picture(f"{mode}_{sampling.replace(':', '')}.avif",
                      saved(image(mode, 64, 48), "AVIF", quality=90, subsampling=sampling),
                      most=255 if sampling == "4:2:0" else 6, reason=reason)


def everything(encoder):
    return [*pillow_jpegs(), *encoded_jpegs(encoder), *odd_jpegs(), *turned_jpegs(), *written_pngs(),
            *pillow_pngs(), *odd_pngs(), *turned_pngs(), *blends(), *webps(), *gifs(), *pnms(), *avifs()]
