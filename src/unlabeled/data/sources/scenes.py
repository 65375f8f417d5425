"""plain2striped: drawn animals on grass, in one domain with a plain coat, in the other striped. No download.

A stand-in for horse2zebra (Zhu et al. 2017) in which the truth is known: a scene is a function of (split, i),
drawn with either coat, and nothing but the coat differs. The training scenes of the two domains are different
scenes; row i of val and of test is one scene in both.

The stripes are a function of the animal's shape, so that plain -> striped has one right answer. The other way
has not: a striped picture does not tell the tone of the plain coat, and no translator can be exact there.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw

from unlabeled.data.packing import RawImages
from unlabeled.seeding import mix

DRAWING = 1  # raise it when a scene looks different from before

Colour = np.ndarray  # (3,) grey levels in [0, 255]
Point = tuple[float, float]

# In grey levels of 255: coat, and the mane and tail that go with it.
COATS = [
    ((124, 74, 42), (38, 28, 24)),  # bay
    ((150, 84, 44), (142, 78, 40)),  # chestnut
    ((176, 124, 72), (226, 204, 160)),  # palomino
    ((92, 56, 38), (34, 24, 20)),  # dark bay
    ((152, 142, 132), (74, 70, 70)),  # grey
    ((168, 138, 100), (52, 40, 34)),  # dun
]
# Sky above, sky at the horizon, light.
SKIES = [
    ((92, 150, 214), (200, 224, 240), (1.0, 1.0, 1.0)),  # clear
    ((120, 168, 206), (228, 232, 226), (0.98, 0.98, 0.96)),  # hazy
    ((122, 140, 190), (248, 204, 150), (1.06, 0.96, 0.84)),  # evening
    ((156, 170, 182), (214, 220, 222), (0.88, 0.91, 0.94)),  # overcast
]
GRASSES = [(96, 138, 58), (122, 146, 62), (150, 148, 74), (80, 124, 64), (172, 156, 88)]


def _colour(*levels: float) -> np.ndarray:
    return np.array(levels, np.float32)


WHITE, BLACK, HOOF = _colour(240, 235, 224), _colour(34, 30, 30), _colour(48, 42, 40)


class Scenes:
    """The data set. Domain a is plain, domain b striped."""

    name = "plain2striped"
    splits = ("train_a", "train_b", "val_a", "val_b", "test_a", "test_b")
    pairs_known = True  # row i of test_a and test_b, and of val_a and val_b, is one scene
    streams: ClassVar = {"train_a": 0, "train_b": 1, "val_a": 2, "val_b": 2, "test_a": 3, "test_b": 3}

    def __init__(self, size: int = 64, train: int = 400, val: int = 50, test: int = 100):
        self.size = size  # side in pixels
        self.counts = {"train": train, "val": val, "test": test}  # scenes of each domain

    def prepare(self, root: Path) -> None:
        pass

    def fingerprint(self, root: Path) -> str:
        return f"drawing-{DRAWING}-{self.size}-{'-'.join(map(str, self.counts.values()))}"

    def read(self, root: Path, split: str) -> RawImages:
        stage, domain = split.split("_")
        n = self.counts[stage]
        return RawImages(self._images(stage, domain, n), np.full(n, -1, np.int64))

    def _images(self, stage: str, domain: str, n: int) -> Iterator[np.ndarray]:
        stream = self.streams[f"{stage}_{domain}"]
        for i in range(n):
            yield draw(mix(DRAWING, stream, i), self.size, striped=domain == "b")


class PairedScenes(Scenes):
    """The data set with pairs for training too: row i of train_b is the scene of row i of train_a."""

    name = "plain2striped_pairs"
    streams: ClassVar = Scenes.streams | {"train_b": 0}


def draw(seed: int, size: int, striped: bool) -> np.ndarray:
    """The scene `seed` as (size, size, 3) uint8; the same scene at every size, with one coat or the other."""
    random = RandomState(seed % 2**32)  # its stream is frozen, Generator's is not
    supersampling = max(2, -(-128 // size))
    side = size * supersampling
    sky, haze, light = (_colour(*c) for c in SKIES[random.randint(len(SKIES))])
    grass = _colour(*GRASSES[random.randint(len(GRASSES))]) + _colour(*random.uniform(-12, 12, 3))
    horizon = random.uniform(0.34, 0.58)

    picture = _landscape(random, side, horizon, sky, haze, grass)
    canvas = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    _trees(random, pen, side, horizon, grass, haze)
    _blades(random, pen, side, horizon, grass, 140)
    scale = random.uniform(0.44, 0.56)  # height at the withers, in sides of the picture
    ground = random.uniform(max(0.80, horizon + 0.2), 0.92)
    picture = np.asarray(canvas).astype(np.float32)
    _animal(random, picture, scale, ground, striped)
    canvas = Image.fromarray((picture * light).clip(0, 255).astype(np.uint8))
    _blades(random, ImageDraw.Draw(canvas), side, ground - 0.005, grass * light, 34)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _landscape(random: RandomState, side: int, horizon: float, sky: Colour, haze: Colour, grass: Colour) -> np.ndarray:
    """Sky with clouds, hills, ground: (side, side, 3) float32."""
    y = ((np.arange(side, dtype=np.float32) + 0.5) / side)[:, None, None]
    x = ((np.arange(side, dtype=np.float32) + 0.5) / side)[None, :, None]
    clouds = (_noise(random, side, 5, 24) - 0.5).clip(0, 1) * random.uniform(0, 2.5) * (1 - y / horizon).clip(0, 1)
    picture = sky + (haze - sky) * (y / horizon).clip(0, 1) ** 1.5
    picture = picture + (250 - picture) * clouds.clip(0, 0.8)
    for layer in range(random.randint(1, 4)):
        far = 1 - 0.45 * layer
        ridge: Any = horizon - random.uniform(0.03, 0.14) * far
        for wave in range(1, 4):
            ridge = ridge + random.uniform(0, 0.05) / wave * np.sin(
                wave * random.uniform(3, 7) * x + random.uniform(0, 6)
            )
        hill = grass * _colour(0.62, 0.72, 0.75) * (1 - 0.6 * far) + haze * 0.6 * far + random.uniform(-14, 14)
        cover = ((y - np.minimum(ridge, horizon)) * side + 0.5).clip(0, 1)
        picture = picture + (hill - picture) * cover
    depth = ((y - horizon) / (1 - horizon)).clip(0, 1)
    ground = grass * (1.12 - 0.34 * depth) + (haze - grass) * 0.3 * (1 - depth) ** 4
    ground = ground * (0.80 + 0.26 * _noise(random, side, 5, 16) + 0.14 * _noise(random, side, 40, 40))
    return picture + (ground - picture) * ((y - horizon) * side + 0.5).clip(0, 1)


def _noise(random: RandomState, side: int, columns: int, rows: int) -> np.ndarray:
    """Smooth noise in [0, 1], (side, side, 1), the same at every size."""
    lattice = Image.fromarray(random.randint(0, 256, (rows, columns)).astype(np.uint8))
    return np.asarray(lattice.resize((side, side), Image.Resampling.BICUBIC), np.float32)[:, :, None] / 255


def _trees(
    random: RandomState, pen: ImageDraw.ImageDraw, side: int, horizon: float, grass: Colour, haze: Colour
) -> None:
    """A few crowns on trunks along the horizon."""
    for _ in range(random.randint(0, 5)):
        x, height = random.uniform(0, 1), random.uniform(0.06, 0.19)
        flat = random.uniform(0.6, 1.7)  # an acacia's crown is wide
        foot = horizon + random.uniform(0.0, 0.03)
        tone = grass * random.uniform(0.42, 0.62) + haze * 0.12
        trunk = [x - 0.006, foot - height * 0.7, x + 0.006, foot]
        pen.rectangle([w * side for w in trunk], fill=_ink(np.array([82, 66, 52])))
        for k in range(6):
            cx = x + random.uniform(-0.35, 0.35) * height * flat
            cy = foot - height * random.uniform(0.65, 0.9)
            r = height * random.uniform(0.16, 0.28)
            box = [cx - r * flat, cy - r, cx + r * flat, cy + r]
            pen.ellipse([w * side for w in box], fill=_ink(tone * (0.88 + 0.05 * k)))


def _blades(random: RandomState, pen: ImageDraw.ImageDraw, side: int, top: float, grass: Colour, n: int) -> None:
    """Blades of grass, longer towards the viewer."""
    for _ in range(n):
        y = top + (1 - top) * random.uniform(0, 1) ** 0.8
        near = (y - 0.3) / 0.7
        x, length, lean = random.uniform(0, 1), 0.012 + 0.05 * near**2, random.uniform(-0.4, 0.4)
        tone = _ink(grass * random.uniform(0.72, 1.22))
        tip = ((x + lean * length) * side, (y - length) * side)
        pen.line([(x * side, y * side), tip], fill=tone, width=max(1, round(0.009 * near * side)))


def _ink(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = np.clip(colour, 0, 255).astype(int)
    return int(r), int(g), int(b)


class _Limb:
    """A tapered rod from p to q, in units of the height at the withers, and how stripes run along it."""

    def __init__(self, p: Point, q: Point, radii: tuple[float, float], start: float = 0.0, rate: float = 0.0):
        self.p, self.q, self.radii = p, q, radii
        self.length = float(np.hypot(q[0] - p[0], q[1] - p[1]))
        self.start, self.turns = (
            start,
            rate * self.length,
        )  # phase of the stripes at p, and periods from p to q
        self.end = self.start + self.turns

    def at(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(distance from the surface, negative inside; share of the way from p to q, unclamped) at (u, v)."""
        du, dv = self.q[0] - self.p[0], self.q[1] - self.p[1]
        along = ((u - self.p[0]) * du + (v - self.p[1]) * dv) / self.length**2
        t = along.clip(0, 1)
        distance = np.sqrt((u - self.p[0] - t * du) ** 2 + (v - self.p[1] - t * dv) ** 2)
        return distance - (self.radii[0] + (self.radii[1] - self.radii[0]) * t), along


def _bend(p: Point, degrees: float, length: float) -> Point:
    """The point `length` away from p, at an angle from straight down; forward is positive."""
    a = np.radians(degrees)
    return p[0] + length * float(np.sin(a)), p[1] - length * float(np.cos(a))


def _leg(hip: Point, swing: float, lift: float, hind: bool, start: float, rate: float) -> list[_Limb]:
    """Thigh and shank. `swing` in degrees, `lift` in [0, 1] folds the shank."""
    thigh, knee_radius = (0.36, 0.052) if hind else (0.33, 0.048)
    knee = _bend(hip, swing - (15 if hind else 2), thigh)
    hoof = _bend(knee, swing * 0.6 + (6 if hind else 0) - 55 * lift, 0.34)
    upper = _Limb(hip, knee, (0.15 if hind else 0.1, knee_radius), start, rate)
    return [upper, _Limb(knee, hoof, (knee_radius, 0.034), upper.end, rate)]


def _animal(random: RandomState, picture: np.ndarray, scale: float, ground: float, striped: bool) -> None:
    """Paints the animal, and its shadow, into `picture` (side, side, 3) in [0, 255]."""
    # The pose: a walk's phase, the neck between low and high or down to graze, and how stout the animal is.
    facing = 1 if random.uniform() < 0.5 else -1  # to the right, to the left
    place, high, grazing = random.uniform(), random.uniform(-0.4, 1.0), random.uniform() < 0.25
    stride, phase, tail_swing = random.uniform(4, 24), random.uniform(0, 2 * np.pi), random.uniform(-6, 24)
    stout, tall = random.uniform(0.92, 1.1), random.uniform(0.97, 1.04)
    coat, hair = (_colour(*c) for c in COATS[random.randint(len(COATS))])
    coat = coat * random.uniform(0.85, 1.12) + _colour(*random.uniform(-6, 6, 3))
    socks = random.uniform() < 0.5  # a plain animal's lower legs in the colour of its mane
    mane = random.uniform(0.035, 0.055)

    # The skeleton, forward and upward from the ground below the middle, in heights at the withers.
    back = 0.74 * tall
    rump, belly, chest = (-0.36, back + 0.01), (-0.02, back - 0.03), (0.30, back)
    withers = (0.33, back - 0.01 if grazing else back + 0.05)
    poll = _bend(withers, 50 if grazing else 120 + 26 * high, 0.58)
    muzzle = _bend(poll, 14 if grazing else 50 + 10 * high, 0.27)
    dock = (rump[0] - 0.15, back + 0.10)
    tail = _bend(dock, -22 - tail_swing, 0.2)

    rate = 5.6  # stripes per unit of length
    hind_quarter = _Limb(rump, belly, (0.185 * stout, 0.185 * stout), 0.0, rate)
    fore_quarter = _Limb(belly, chest, (0.185 * stout, 0.19 * stout), hind_quarter.end, rate)
    neck = _Limb(withers, poll, (0.16 * stout, 0.085), fore_quarter.end + 0.2, rate)
    head = _Limb(poll, muzzle, (0.098, 0.056), neck.end, rate * 1.2)

    def step(turn: float) -> tuple[float, float]:
        return stride * float(np.sin(phase + turn)), max(0.0, float(np.cos(phase + turn))) * stride / 34

    hip, shoulder = (-0.34, back - 0.04), (0.27, back - 0.10)
    near = _leg(hip, *step(0), True, -0.1, -rate) + _leg(shoulder, *step(np.pi / 2), False, fore_quarter.end, rate)
    far = _leg((hip[0] + 0.05, hip[1]), *step(np.pi), True, 0.3, -rate)
    far += _leg((shoulder[0] + 0.06, shoulder[1]), *step(3 * np.pi / 2), False, fore_quarter.end + 0.4, rate)

    # Everything below happens in the part of the picture that the animal fills, whole and inside the frame.
    side = len(picture)
    left, right = -0.68, muzzle[0] + 0.08
    room = max(0.0, 0.97 - (right - left) * scale)
    centre = 0.015 + room * place - (left if facing > 0 else -right) * scale
    pixels = (np.arange(side, dtype=np.float32) + 0.5) / side
    forward, upward = facing * (pixels - centre) / scale, (ground - pixels) / scale
    columns = np.flatnonzero((forward > left) & (forward < right))
    rows = np.flatnonzero((upward > -0.15) & (upward < max(poll[1] + 0.2, 1.1)))
    window = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    u, v = np.meshgrid(forward[columns], upward[rows])
    pixel = 1 / (side * scale)

    def cover(distance: np.ndarray) -> np.ndarray:
        return (0.5 - distance / pixel).clip(0, 1)

    def paint(inside: np.ndarray, colour: np.ndarray) -> None:
        window[:] += (colour - window) * inside[:, :, None]

    def dye(phases: np.ndarray, plain: np.ndarray) -> np.ndarray:
        """Stripes where the animal has them, else `plain`."""
        if not striped:
            return plain
        black = (0.5 + 2.2 * (np.sin(2 * np.pi * phases) + 0.05)).clip(0, 1)[:, :, None]
        return WHITE + (BLACK - WHITE) * black

    def skin(limbs: Sequence[_Limb], tone: float) -> None:
        """Limbs grown together, rounded by light from above, in their coat."""
        distances, shares = (np.stack(values) for values in zip(*(limb.at(u, v) for limb in limbs), strict=True))
        nearest = distances.min(0)
        weight = np.exp((nearest - distances) * 26)  # a smooth union, which also blends the stripes
        total = weight.sum(0)
        surface = nearest - np.log(total) / 26
        start, turns = (
            np.array([getattr(limb, k) for limb in limbs], np.float32)[:, None, None] for k in ("start", "turns")
        )
        phases = (weight * (start + turns * shares)).sum(0) / total
        dark = ((0.34 - v) / 0.1).clip(0, 1)[:, :, None] * float(socks)
        colour = dye(phases, coat + (hair - coat) * dark)
        edge = (1 + surface / 0.13).clip(0, 1) ** 2  # 0 deep inside, 1 at the outline
        lit = 0.2 * edge * np.gradient(surface, pixel, axis=0)
        paint(cover(surface), colour * (tone - lit)[:, :, None])

    def rods(limbs: Sequence[_Limb], colour: np.ndarray, part: tuple[float, float] = (-9, 9)) -> None:
        """Limbs of one colour, from the share `part[0]` to `part[1]` of their length."""
        for limb in limbs:
            distance, share = limb.at(u, v)
            paint(cover(distance) * (share > part[0]) * (share < part[1]), colour)

    shadow = np.exp(-((u / 0.55) ** 4) - ((v + 0.005) / 0.045) ** 2)
    window *= 1 - 0.42 * shadow[:, :, None]
    skin(far, 0.66)
    rods(far[1::2], HOOF, (0.87, 9))
    rods([_Limb(dock, tail, (0.03, 0.032))], WHITE * 0.9 if striped else hair)
    rods([_Limb(tail, _bend(tail, -4 - tail_swing * 0.7, 0.26), (0.046, 0.02))], BLACK if striped else hair)

    # The mane: a crest behind the neck's upper edge, striped on as the neck is.
    across = np.array([neck.p[1] - poll[1], poll[0] - neck.p[0]]) / neck.length
    crest = _Limb(
        (neck.p[0] - 0.06 + 0.15 * across[0], neck.p[1] + 0.15 * across[1]),
        (poll[0] + 0.09 * across[0], poll[1] + 0.09 * across[1]),
        (mane * 0.8, mane),
        neck.start,
        neck.turns / neck.length,
    )
    distance, share = crest.at(u, v)
    paint(cover(distance), dye(crest.start + crest.turns * share, hair) * 0.92)
    ear = (poll[0] + 0.02 + 0.15 * across[0], poll[1] + 0.02 + 0.15 * across[1])
    rods([_Limb(poll, ear, (0.055, 0.014))], (WHITE if striped else coat) * 0.8)
    skin([hind_quarter, fore_quarter, neck, head, *near], 1.0)
    rods(near[1::2], HOOF, (0.87, 9))
    rods([head], BLACK if striped else coat * 0.45, (0.86, 9))
    eye = (poll[0] * 0.72 + muzzle[0] * 0.28 + 0.03 * across[0], poll[1] * 0.72 + muzzle[1] * 0.28 + 0.03)
    rods([_Limb(eye, (eye[0] + 0.001, eye[1]), (0.022, 0.022))], _colour(16, 12, 12))
