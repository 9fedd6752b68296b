"""The street as a camera on the roof sees it sideways: one long picture, drawn once, that closes on itself.

Lengths are metres: x along the street, y up from the foot of the houses. Signs are larger than life, so that they can
be read in a picture of 720 rows.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np

from simulator.paint import BAND_ROWS, Brush, Color, Picture, Planes, SignColors, rgb, shade, to_planes

VIEW_HEIGHT_M = 18.0  # what the height of a picture shows
STREET_LENGTH_M = 320.0
FOOT_SHARE = 0.775  # where in the picture's height the houses stand
PAVEMENT_M = 0.8
ROAD_M = VIEW_HEIGHT_M * (1 - FOOT_SHARE)
STOREY_M = 2.8
LAST_PLOT_M = 12.0
HOUSES_IN_A_ROW = 5

Dice = random.Random
Texts = Mapping[Any, Iterator[Any]]  # for signs, by the list that they are of
_Card = TypeVar("_Card")

WHITE, BLACK, RED, BLUE = rgb("f7f7f5"), rgb("202020"), rgb("c8102e"), rgb("1f3f8f")
SKY_HIGH, SKY_LOW, CLOUD = rgb("7ba7d6"), rgb("d6e6f2"), rgb("f8f9fa")
WALLS = tuple(map(rgb, ("e9dfc8", "dcd0b4", "efe9dc", "d8c3a5", "e3d3c0", "cfc8bb", "f0e3d0", "d9cfc4", "c98f6b")))
SLATE, TILES, STONE = rgb("56606d"), rgb("b0603f"), rgb("cfc7b4")
SHUTTERS = tuple(map(rgb, ("4f7a94", "6b8f71", "8a3b3b", "7d8a96", "2f5d62", "a6b8c2", "5a4a78", "e9e6dc")))
DOORS = tuple(map(rgb, ("3f5e4a", "7a2f2a", "2f4a6b", "6b4a2f", "39424a")))
GLASS, CURTAIN, WOOD = rgb("42515f"), rgb("dfe3e4"), rgb("f4f1ea")
LEAVES = tuple(map(rgb, ("4f7a3a", "5f8c45", "456f38", "72994f")))
METAL = rgb("5a6068")
PAINTS = tuple(map(rgb, ("9aa3ab", "2d3d5c", "8f1d22", "e8e8e6", "33383d", "4d6b57", "c9b37a")))

BLUE_SIGN = SignColors(BLUE, rgb("e9eef5"), WHITE)
STREET_SIGN = SignColors(BLUE, rgb("3d8a4e"), WHITE)
TOWN_SIGN = SignColors(WHITE, RED, BLACK)

STREETS = (
    "RUE DES/ORMEAUX",
    "RUE DU/MOULIN",
    "RUE DE LA/LIBERTÉ",
    "RUE JEAN/MOULIN",
    "PLACE DE/L'ÉGLISE",
    "RUE DES/VIGNES",
    "RUE VICTOR/HUGO",
    "CHEMIN DE/LA LOIRE",
    "RUE DU GÉNÉRAL/LECLERC",
    "AVENUE DE/NANTES",
)
SHOPS = (  # name, what the window says, colours of the front and of the letters
    ("BOULANGERIE", "PÂTISSERIE", "7a3b1e", "f6e3b4"),
    ("PHARMACIE", "ORDONNANCES", "1f7a45", "ffffff"),
    ("TABAC PRESSE", "LOTO", "8a1f24", "ffffff"),
    ("COIFFURE MARIE", "SANS RENDEZ-VOUS", "3a3340", "f2d7e0"),
    ("BOUCHERIE CHARCUTERIE", "TRAITEUR", "a3262a", "fff4e0"),
    ("CAFÉ DE LA PLACE", "BAR - BRASSERIE", "17422f", "f3d98b"),
    ("LIBRAIRIE DU CENTRE", "JOURNAUX", "20385c", "f2efe6"),
    ("FLEURS ET JARDIN", "MARIAGES", "4b6b34", "ffffff"),
    ("CRÉDIT DE L'OUEST", "BANQUE", "00707a", "ffffff"),
    ("OPTIQUE BERNARD", "LUNETTES", "30363d", "ffffff"),
    ("ÉPICERIE FINE", "PRODUITS RÉGIONAUX", "6a4a1f", "f7ebcf"),
    ("PIZZA ROMA", "À EMPORTER", "1e5c3a", "fff3d6"),
)
HALLS = ("MAIRIE", "ÉCOLE PUBLIQUE", "BIBLIOTHÈQUE", "GENDARMERIE", "SALLE DES FÊTES")
POSTERS = ("À VENDRE/02 40 36 12 58", "VIDE-GRENIER/DIMANCHE 7 JUIN", "ATTENTION/AU CHIEN", "À LOUER/06 31 47 85 20")
DIRECTIONS = ("VALLET 3", "CLISSON 12", "NANTES 25", "LE PALLET 7", "ANGERS 68", "MOUZILLON 5")  # two at a crossing
TOWNS = ("VALLET", "LA CHAPELLE-HEULIN", "LE LANDREAU", "TILLIÈRES")
VANS = (
    ("MARTIN PLOMBERIE", "02 40 54 18 73"),
    ("ÉLECTRICITÉ MOREAU", "02 51 79 30 46"),
    ("DURAND MENUISERIE", "06 84 29 57 11"),
    ("LES JARDINS DE LOIRE", "02 40 06 92 35"),
)


@dataclass(frozen=True, slots=True)
class Plot:
    """A piece of the street, with the house number that is due."""

    left: float
    right: float
    number: int
    at_corner: bool = False

    @property
    def width(self) -> float:
        """Length along the street in metres."""
        return self.right - self.left

    @property
    def middle(self) -> float:
        """Where its middle is."""
        return (self.left + self.right) / 2


@dataclass(frozen=True, slots=True)
class Joints:
    """Where things may stand before the houses: between two of them, and not before the streets."""

    between: list[float]
    streets: list[Plot]

    def is_free(self, left: float, right: float) -> bool:
        """Whether a parked car would leave the crossings alone."""
        return all(right < street.left or left > street.right for street in self.streets)


def _deal(dice: Dice, cards: Sequence[_Card]) -> Iterator[_Card]:
    """Each is used once before any is used again."""
    while True:
        yield from dice.sample(cards, len(cards))


def draw_street(height: int, seed: int) -> Planes:
    """The whole street, `height` pixels high; its right end fits its left one."""
    dice = random.Random(seed)
    texts: Texts = {cards: _deal(dice, cards) for cards in (STREETS, SHOPS, HALLS, POSTERS, DIRECTIONS, TOWNS, VANS)}
    length = 2 * round(STREET_LENGTH_M * height / VIEW_HEIGHT_M / 2)
    brush = Brush(_sky(dice, length, height), height / VIEW_HEIGHT_M, height * FOOT_SHARE)
    _horizon(brush)
    _ground(brush, dice)
    joints = _plots(brush, dice, texts)
    _roughen(brush.canvas, seed)
    _furniture(brush, dice, joints, texts)
    _parked(brush, dice, joints, texts)
    return to_planes(brush.canvas)


# --- what lies behind and below --------------------------------------------------------------------------------------


def _sky(dice: Dice, length: int, height: int) -> Picture:
    """Blue that pales downwards, with clouds; drawn coarsely, since nothing in it is sharp."""
    coarse = 8
    rows, columns = height // coarse, length // coarse
    cover = np.zeros((rows, columns), np.float32)
    for _ in range(70):
        center = dice.randrange(60, columns - 60), int(rows * dice.uniform(0.02, 0.38))
        axes = dice.randint(10, 40), dice.randint(2, 6)
        cv2.ellipse(cover, center, axes, 0, 0, 360, dice.uniform(0.5, 1.0), -1)
    cover = cv2.GaussianBlur(cover, (0, 0), 3.5).astype(np.float32)[..., None]
    low = np.linspace(0, 1 / FOOT_SHARE, rows, dtype=np.float32)[:, None, None].clip(0, 1)
    blue = np.array(SKY_HIGH) * (1 - low) + np.array(SKY_LOW) * low
    sky = np.rint(blue * (1 - cover) + np.array(CLOUD) * cover).astype(np.uint8)
    canvas: Picture = cv2.resize(sky, (length, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return canvas


def _horizon(brush: Brush) -> None:
    """Two rows of trees far away; periodic, so that the ends meet."""
    for step, reach, color in ((3.2, 4.2, rgb("9db3a5")), (2.5, 3.0, rgb("7f9c7a"))):
        count = round(STREET_LENGTH_M / step)
        for index in range(-2, count + 3):
            angle = 2 * math.pi * index / count
            radius = 2.2 + 0.5 * math.sin(31 * angle) + 0.4 * math.sin(47 * angle + 1)
            brush.disc(index * STREET_LENGTH_M / count, reach - 2.2 + 0.6 * math.sin(9 * angle), radius, color, 1.2)


def _ground(brush: Brush, dice: Dice) -> None:
    for bottom, top, color in (
        (-ROAD_M, 0.0, "63656a"),
        (-PAVEMENT_M, 0.0, "b9b4aa"),
        (-PAVEMENT_M - 0.16, -PAVEMENT_M, "8c8a86"),
        (-PAVEMENT_M - 0.22, -PAVEMENT_M - 0.16, "4b4c50"),
    ):
        brush.box(-1, bottom, STREET_LENGTH_M + 1, top, rgb(color))
    for x in range(0, int(STREET_LENGTH_M) + 1, 2):
        brush.box(x - 0.02, -PAVEMENT_M, x + 0.02, 0, rgb("a39e94"))
    for x in range(1, int(STREET_LENGTH_M), 4):
        brush.box(x, -3.35, x + 2, -3.2, rgb("dcdcd8"))
    for _ in range(40):
        patch = dice.uniform(3, STREET_LENGTH_M - 3), dice.uniform(-3.0, -1.4)
        brush.disc(*patch, dice.uniform(0.4, 1.4), rgb("5c5e63"), 0.16)


def _roughen(canvas: Picture, seed: int) -> None:
    """The grain of plaster, stone and asphalt; and of a sensor, in the sky."""
    dice = np.random.default_rng(seed)
    for top in range(0, canvas.shape[0], BAND_ROWS):
        band = canvas[top : top + BAND_ROWS]
        grain = dice.standard_normal(band.shape[:2], np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), 0.8).astype(np.float32) * 4
        band[:] = np.clip(band + grain[..., None], 0, 255)


# --- plots -----------------------------------------------------------------------------------------------------------


def _plots(brush: Brush, dice: Dice, texts: Texts) -> Joints:
    """Plots from end to end, a side street after each handful; nothing leans over the seam, where a garden lies."""
    left, since_street = 0.0, 0
    number = dice.randrange(1, 40, 2)
    joints = Joints([], [])
    while (room := STREET_LENGTH_M - left) > 0:
        is_last = room <= 2 * LAST_PLOT_M
        plot = Plot(left, left + (room if is_last else dice.uniform(6.5, 11.0)), number, since_street == 0)
        if is_last or left == 0:
            _garden(brush, dice, plot, texts)
        elif since_street == HOUSES_IN_A_ROW:
            _side_street(brush, plot, texts)
            joints.streets.append(plot)
            since_street = -1
        else:
            _building(brush, dice, plot, texts)
            joints.between.append(plot.left)
        since_street += 1
        left, number = plot.right, number + 2
    return joints


def _building(brush: Brush, dice: Dice, plot: Plot, texts: Texts) -> None:
    kind = dice.random()
    if kind < 0.5:
        _house(brush, dice, plot, texts)
    elif kind < 0.82:
        _shop(brush, dice, plot, texts)
    elif kind < 0.9 and plot.width > 8.5:
        _hall(brush, plot, texts)
    else:
        _garden(brush, dice, plot, texts)


def _house(brush: Brush, dice: Dice, plot: Plot, texts: Texts) -> None:
    storeys = dice.choice((1, 2, 2, 2, 3))
    wall, shutter = dice.choice(WALLS), dice.choice(SHUTTERS)
    _shell(brush, dice, plot, storeys, wall)
    columns = _columns(plot)
    door = dice.randrange(len(columns))
    for storey in range(storeys):
        for index, x in enumerate(columns):
            if storey == 0 and index == door:
                _door(brush, x, dice.choice(DOORS))
            else:
                _window(brush, dice, x, 0.5 + STOREY_M * storey + 0.75, shutter)
    if plot.at_corner and storeys > 1:
        brush.sign(next(texts[STREETS]), plot.left + 1.15, 3.4, 1.9, 0.92, STREET_SIGN)
    beside = columns[door] + (1.02 if door + 1 < len(columns) else -1.02)
    brush.sign(str(plot.number), beside, 2.05, 0.72, 0.5, BLUE_SIGN)


def _columns(plot: Plot) -> list[float]:
    """The middles of the windows, one above the other."""
    count = max(2, int((plot.width - 0.6) / 2.75))
    return [plot.left + plot.width * (index + 0.5) / count for index in range(count)]


def _shell(brush: Brush, dice: Dice, plot: Plot, storeys: int, wall: Color) -> None:
    """Walls and roof."""
    eaves = 0.5 + STOREY_M * storeys
    brush.box(plot.left, 0, plot.right, eaves, wall)
    brush.box(plot.left, 0, plot.right, 0.45, shade(wall, 0.78))
    for index in range(int(eaves / 0.4)):
        long = 0.42 if index % 2 else 0.26
        for left, right in ((plot.left, plot.left + long), (plot.right - long, plot.right)):
            brush.box(left, 0.4 * index, right, 0.4 * index + 0.37, shade(STONE, 1.05))
    for storey in range(1, storeys):
        brush.box(plot.left, 0.35 + STOREY_M * storey, plot.right, 0.5 + STOREY_M * storey, shade(wall, 0.9))
    _roof(brush, dice, plot, eaves)


def _roof(brush: Brush, dice: Dice, plot: Plot, eaves: float) -> None:
    color = dice.choice((SLATE, SLATE, TILES))
    rise, lean = dice.uniform(1.7, 2.6), dice.choice((0.0, 0.9))
    left, right = plot.left - 0.12, plot.right + 0.12
    stack = plot.left + plot.width * dice.choice((0.2, 0.8))
    brush.box(stack - 0.4, eaves + rise * 0.4, stack + 0.4, eaves + rise + 0.9, rgb("a9694f"))
    brush.box(stack - 0.48, eaves + rise + 0.8, stack + 0.48, eaves + rise + 0.95, STONE)
    brush.polygon([(left, eaves), (right, eaves), (right - lean, eaves + rise), (left + lean, eaves + rise)], color)
    for step in range(1, int(rise / 0.28)):
        y, inset = eaves + 0.28 * step, lean * 0.28 * step / rise
        brush.box(left + inset, y, right - inset, y + 0.03, shade(color, 0.86))
    brush.box(left, eaves - 0.28, right, eaves - 0.1, shade(STONE, 0.62))  # shadow of the gutter
    brush.box(left, eaves - 0.1, right, eaves + 0.08, rgb("8f979e"))


def _window(brush: Brush, dice: Dice, x: float, sill: float, shutter: Color) -> None:
    half, height = 0.5, 1.5
    brush.box(x - half - 0.12, sill - 0.1, x + half + 0.12, sill + height + 0.16, shade(STONE, 1.06))
    _pane(brush, dice, x - half, sill, x + half, sill + height)
    for left in (x - half - 0.62, x + half + 0.1):
        brush.box(left + 0.05, sill - 0.09, left + 0.57, sill + height - 0.02, rgb("8d877b"))  # its shadow
        brush.box(left, sill - 0.03, left + 0.52, sill + height + 0.03, shutter)
        for slat in range(9):
            y = sill + 0.08 + slat * 0.16
            brush.box(left + 0.06, y, left + 0.46, y + 0.05, shade(shutter, 0.82))
    brush.box(x - half - 0.16, sill - 0.16, x + half + 0.16, sill - 0.04, shade(STONE, 0.92))
    if dice.random() < 0.3:
        _flowers(brush, dice, x, sill)


def _pane(brush: Brush, dice: Dice, left: float, bottom: float, right: float, top: float) -> None:
    width, height = right - left, top - bottom
    brush.box(left, bottom, right, top, GLASS)
    shine = [(0.1, 0.0), (0.45, 0.0), (0.95, 1.0), (0.6, 1.0)]
    brush.polygon([(left + x * width, bottom + y * height) for x, y in shine], shade(GLASS, 1.35))
    if dice.random() < 0.6:
        for near, far in ((left, left + 0.28 * width), (right - 0.28 * width, right)):
            brush.box(near, bottom, far, top, CURTAIN)
    brush.frame(left, bottom, right, top, 0.07, WOOD)
    brush.box(left + width / 2 - 0.035, bottom, left + width / 2 + 0.035, top, WOOD)
    brush.box(left, bottom + 0.6 * height, right, bottom + 0.6 * height + 0.05, WOOD)


def _flowers(brush: Brush, dice: Dice, x: float, sill: float) -> None:
    brush.box(x - 0.5, sill - 0.05, x + 0.5, sill + 0.16, rgb("9c5a3c"))
    for _ in range(26):
        color = dice.choice((rgb("d63a4a"), rgb("e7799a"), *LEAVES[:2]))
        brush.disc(x + dice.uniform(-0.5, 0.5), sill + dice.uniform(0.14, 0.36), 0.07, color)


def _door(brush: Brush, x: float, color: Color) -> None:
    brush.box(x - 0.68, 0, x + 0.68, 2.72, shade(STONE, 1.06))
    brush.box(x - 0.52, 0.16, x + 0.52, 2.55, color)
    brush.box(x - 0.42, 2.12, x + 0.42, 2.45, GLASS)
    for left, bottom in ((-0.42, 0.3), (0.06, 0.3), (-0.42, 1.2), (0.06, 1.2)):
        brush.frame(x + left, bottom, x + left + 0.36, bottom + 0.78, 0.04, shade(color, 1.3))
    brush.disc(x + 0.46, 1.2, 0.045, rgb("d8b64a"))
    brush.box(x - 0.85, 0, x + 0.85, 0.16, shade(STONE, 0.85))


def _shop(brush: Brush, dice: Dice, plot: Plot, texts: Texts) -> None:
    name, ware, front_text, ink_text = next(texts[SHOPS])
    front, ink = rgb(front_text), rgb(ink_text)
    storeys = dice.choice((2, 2, 3))
    _shell(brush, dice, plot, storeys, dice.choice(WALLS[:-1]))
    shutter = dice.choice(SHUTTERS)
    for storey in range(1, storeys):
        for x in _columns(plot):
            _window(brush, dice, x, 1.2 + STOREY_M * storey + 0.3, shutter)
    left, right = plot.left + 0.45, plot.right - 0.45
    brush.box(left, 0, right, 2.75, front)
    _shop_window(brush, left + 0.25, right - 1.6, ware, ink)
    _shop_door(brush, right - 0.85, plot.number, front)
    if dice.random() < 0.5:
        _awning(brush, left + 0.1, right - 1.5, front)
    brush.box(left - 0.1, 2.55, right + 0.1, 3.45, shade(front, 0.9))
    brush.frame(left - 0.1, 2.55, right + 0.1, 3.45, 0.04, shade(front, 1.4))
    brush.text(name, (left + right) / 2, 3.0, 0.5, right - left - 0.5, ink)
    if name == "PHARMACIE":
        _cross(brush, plot.right - 0.3, 4.2)


def _shop_window(brush: Brush, left: float, right: float, ware: str, ink: Color) -> None:
    brush.box(left, 0.55, right, 2.4, shade(GLASS, 0.9))
    for share in (0.1, 0.55):
        x = left + share * (right - left)
        brush.polygon([(x, 0.55), (x + 0.5, 0.55), (x + 1.1, 2.4), (x + 0.6, 2.4)], shade(GLASS, 1.25))
    for index in range(int((right - left - 0.3) / 0.42)):
        x = left + 0.35 + 0.42 * index
        brush.disc(x, 0.74, 0.16, PAINTS[index * 3 % len(PAINTS)], 0.8)
    brush.text(ware, (left + right) / 2, 1.5, 0.3, right - left - 0.5, shade(ink, 0.97))
    brush.frame(left, 0.55, right, 2.4, 0.07, WOOD)


def _shop_door(brush: Brush, x: float, number: int, front: Color) -> None:
    brush.box(x - 0.5, 0.1, x + 0.5, 2.4, shade(front, 1.25))
    brush.box(x - 0.38, 0.4, x + 0.38, 1.75, shade(GLASS, 1.1))
    brush.box(x + 0.3, 1.0, x + 0.34, 1.4, rgb("d8d8d8"))
    brush.sign(str(number), x, 2.08, 0.62, 0.44, BLUE_SIGN)


def _awning(brush: Brush, left: float, right: float, color: Color) -> None:
    count = max(2, int((right - left) / 0.4))
    width = (right - left) / count
    for index in range(count):
        x = left + index * width
        stripe = WHITE if index % 2 else shade(color, 1.25)
        brush.box(x, 2.12, x + width, 2.6, stripe)
        brush.disc(x + width / 2, 2.12, width / 2, stripe, 0.6)


def _cross(brush: Brush, x: float, y: float) -> None:
    green = rgb("1fae5a")
    brush.box(x - 0.45, y - 0.15, x + 0.45, y + 0.15, green)
    brush.box(x - 0.15, y - 0.45, x + 0.15, y + 0.45, green)


def _hall(brush: Brush, plot: Plot, texts: Texts) -> None:
    """A public building of cut stone."""
    dice = random.Random(plot.number)
    _shell(brush, dice, plot, 2, rgb("e6dcc2"))
    for row in range(1, 14):
        brush.box(plot.left + 0.45, 0.42 * row, plot.right - 0.45, 0.42 * row + 0.025, rgb("d3c8ac"))
    for x in _columns(plot):
        _window(brush, dice, x, 3.7, SHUTTERS[3])
        if abs(x - plot.middle) > 1.5:
            _window(brush, dice, x, 1.0, SHUTTERS[3])
    _door(brush, plot.middle, DOORS[2])
    brush.sign(next(texts[HALLS]), plot.middle, 3.2, 3.6, 0.62, SignColors(rgb("f3ecd8"), STONE, rgb("3a3f45")))
    _flag(brush, plot.middle - 1.9, 2.5)
    _flag(brush, plot.middle + 1.1, 2.5)


def _flag(brush: Brush, x: float, y: float) -> None:
    for index, color in enumerate((rgb("1f3a93"), WHITE, RED)):
        brush.box(x + 0.25 * index, y - 0.5, x + 0.25 * (index + 1), y, color)
    brush.box(x - 0.04, y - 0.6, x, y + 0.06, METAL)


def _garden(brush: Brush, dice: Dice, plot: Plot, texts: Texts) -> None:
    left, right = plot.left, plot.right
    for _ in range(max(1, int(plot.width / 4))):
        _tree(brush, dice, dice.uniform(left + 2.2, right - 2.2), dice.uniform(3.6, 5.5))
    x = left + 0.45
    while x < right - 0.4:
        brush.disc(x, 1.45 + dice.uniform(-0.1, 0.15), 0.55, dice.choice(LEAVES))
        x += 0.5
    brush.box(left, 0, right, 1.25, STONE)
    for row in range(4):
        for column in range(int(plot.width / 0.62)):
            x = left + 0.62 * column + (0.31 if row % 2 else 0.0)
            brush.box(x + 0.02, 0.3 * row + 0.02, x + 0.58, 0.3 * row + 0.27, shade(STONE, dice.uniform(0.86, 1.0)))
    brush.box(left, 1.2, right, 1.34, shade(STONE, 0.82))
    words = next(texts[POSTERS])
    brush.sign(words, plot.middle, 1.02, 2.3, 0.86, SignColors(rgb("f6e27a"), BLACK, BLACK))


def _side_street(brush: Brush, plot: Plot, texts: Texts) -> None:
    """A street that leaves at a right angle, seen along its axis."""
    left, right, far = plot.left, plot.right, plot.middle
    brush.polygon([(left, 0), (right, 0), (far + 0.5, 2.2), (far - 0.5, 2.2)], rgb("74767a"))
    for side, edge in ((-1, left), (1, right)):
        brush.polygon([(edge, 0), (edge, 1.6), (far + 0.6 * side, 2.6), (far + 0.6 * side, 2.2)], rgb("8a9b76"))
        brush.polygon([(edge, 0), (edge - 0.9 * side, 0), (far + 0.5 * side, 2.2)], rgb("b9b4aa"))
    brush.box(left, -PAVEMENT_M, right, 0.02, rgb("6c6e72"))
    for stripe in range(6):
        x = left + 0.6 + stripe * (plot.width - 1.2) / 6
        brush.box(x, -0.62, x + 0.55, -0.1, rgb("e4e4e0"))
    _pole(brush, left + 0.5, 3.3)
    brush.sign(next(texts[STREETS]), left + 0.5, 2.85, 1.9, 0.92, STREET_SIGN)
    _stop(brush, left + 2.4)
    _pole(brush, right - 0.9, 3.2)
    for index in range(2):
        _arrow(brush, right - 1.9, 2.9 - 0.55 * index, next(texts[DIRECTIONS]))


# --- what stands on the pavement and at the kerb ---------------------------------------------------------------------

FIRST_CAR_M, CAR_SPOT_M = 6.0, 8.0


def _furniture(brush: Brush, dice: Dice, joints: Joints, texts: Texts) -> None:
    """Lamps, trees and signs between the houses, so that what the houses say stays in sight."""
    kinds = _deal(dice, range(5))
    for index, x in enumerate(joints.between):
        if index % 3 == 0:
            _lamp(brush, x)
        elif index % 3 == 1:
            _small_thing(brush, dice, x, next(kinds), texts)


def _parked(brush: Brush, dice: Dice, joints: Joints, texts: Texts) -> None:
    x = FIRST_CAR_M
    while x < STREET_LENGTH_M - LAST_PLOT_M:
        if joints.is_free(x, x + 5.2) and dice.random() < 0.5:
            if dice.random() < 0.3:
                _van(brush, x, *next(texts[VANS]))
            else:
                _car(brush, x, dice.choice(PAINTS))
        x += dice.uniform(0.75, 1.5) * CAR_SPOT_M


def _small_thing(brush: Brush, dice: Dice, x: float, kind: int, texts: Texts) -> None:
    if kind == 0:
        _limit(brush, x, dice.choice(("30", "50")))
    elif kind == 1:
        _pole(brush, x, 3.0)
        brush.sign(next(texts[TOWNS]), x, 2.1, 2.0, 0.66, TOWN_SIGN)
    elif kind == 2:
        _bus_stop(brush, x)
    elif kind == 3:
        _letter_box(brush, x)
    else:
        _tree(brush, dice, x, 4.2, foot=-0.3)


def _pole(brush: Brush, x: float, top: float) -> None:
    brush.box(x - 0.05, -0.4, x + 0.05, top, METAL)
    brush.box(x - 0.05, -0.4, x - 0.02, top, shade(METAL, 1.4))


def _lamp(brush: Brush, x: float) -> None:
    _pole(brush, x, 6.6)
    brush.box(x - 0.1, -0.4, x + 0.1, 0.6, shade(METAL, 0.8))
    brush.polygon([(x, 6.5), (x, 6.6), (x + 1.3, 6.95), (x + 1.3, 6.85)], METAL)
    brush.polygon([(x + 0.9, 6.86), (x + 1.7, 6.98), (x + 1.65, 6.8), (x + 0.95, 6.74)], shade(METAL, 1.3))


def _limit(brush: Brush, x: float, speed: str) -> None:
    _pole(brush, x, 2.9)
    brush.disc(x, 2.6, 0.5, RED)
    brush.disc(x, 2.6, 0.4, WHITE)
    brush.text(speed, x, 2.6, 0.36, 0.6, BLACK)


def _stop(brush: Brush, x: float) -> None:
    _pole(brush, x, 2.9)
    for radius, color in ((0.58, WHITE), (0.54, RED)):
        turns = [math.pi / 8 + math.pi / 4 * corner for corner in range(8)]
        brush.polygon([(x + radius * math.cos(a), 2.6 + radius * math.sin(a)) for a in turns], color)
    brush.text("STOP", x, 2.6, 0.34, 0.84, WHITE)


def _arrow(brush: Brush, x: float, y: float, words: str) -> None:
    for grown, color in ((0.04, BLACK), (0.0, WHITE)):
        low, high, tip = y - 0.22 - grown, y + 0.22 + grown, x - 1.35 - 1.4 * grown
        brush.polygon(
            [(x + 1.1 + grown, low), (x + 1.1 + grown, high), (x - 1.05, high), (tip, y), (x - 1.05, low)], color
        )
    brush.text(words, x, y, 0.26, 1.9, BLACK)


def _bus_stop(brush: Brush, x: float) -> None:
    brush.box(x - 1.6, -0.3, x - 1.5, 2.4, METAL)
    brush.box(x + 1.5, -0.3, x + 1.6, 2.4, METAL)
    brush.box(x - 1.75, 2.4, x + 1.75, 2.58, rgb("3d4a52"))
    brush.box(x - 1.3, 0.15, x + 1.3, 0.25, rgb("9a7348"))
    brush.sign("BUS  LIGNE 12", x, 2.85, 2.2, 0.5, SignColors(rgb("00539f"), WHITE, WHITE))


def _letter_box(brush: Brush, x: float) -> None:
    brush.box(x - 0.42, -0.3, x + 0.42, 1.3, rgb("f2c21a"))
    brush.box(x - 0.3, 0.95, x + 0.3, 1.02, BLACK)
    brush.text("LA POSTE", x, 1.16, 0.14, 0.74, rgb("1f3a93"))
    brush.frame(x - 0.3, 0.1, x + 0.3, 0.75, 0.03, rgb("c79a10"))


def _tree(brush: Brush, dice: Dice, x: float, height: float, foot: float = 0.0) -> None:
    brush.polygon([(x - 0.16, foot), (x + 0.16, foot), (x + 0.08, height), (x - 0.08, height)], rgb("6b5138"))
    for darkness in (0.8, 1.0, 1.15):
        for _ in range(14):
            reach, angle = 1.3 * math.sqrt(dice.random()), dice.uniform(0, 2 * math.pi)
            lift = 0.25 * (darkness - 1) / 0.2
            leaf = x - 0.2 * lift + reach * math.cos(angle), height + lift + 1.1 * reach * math.sin(angle)
            brush.disc(*leaf, dice.uniform(0.3, 0.6), shade(dice.choice(LEAVES), darkness))


CAR_BODY = ((0, 0.3), (0.02, 0.72), (0.2, 0.84), (0.95, 0.93), (3.75, 0.95), (4.1, 0.86), (4.18, 0.4), (4.1, 0.3))
CAR_ROOF = ((0.85, 0.9), (1.5, 1.42), (1.75, 1.48), (2.9, 1.46), (3.2, 1.36), (3.8, 0.92))
CAR_GLASS = ((1.08, 0.94), (1.62, 1.38), (2.88, 1.38), (3.08, 1.3), (3.45, 0.95))
KERB_M = -1.35  # where parked wheels stand


def _car(brush: Brush, x: float, color: Color) -> None:
    _shadow(brush, x, 4.2)
    for shape, paint in ((CAR_ROOF, color), (CAR_BODY, color), (CAR_GLASS, rgb("2b343c"))):
        brush.polygon([(x + dx, KERB_M + dy) for dx, dy in shape], paint)
    for edge in (2.2, 3.0):
        brush.box(x + edge, KERB_M + 0.92, x + edge + 0.07, KERB_M + 1.4, color)
    brush.box(x + 0.1, KERB_M + 0.52, x + 4.1, KERB_M + 0.56, shade(color, 0.75))
    for handle in (1.95, 2.85):
        brush.box(x + handle, KERB_M + 0.78, x + handle + 0.18, KERB_M + 0.82, shade(color, 0.6))
    brush.box(x + 0.02, KERB_M + 0.64, x + 0.22, KERB_M + 0.78, rgb("f3efd9"))
    brush.box(x + 4.02, KERB_M + 0.64, x + 4.15, KERB_M + 0.82, rgb("a8202a"))
    for wheel in (0.8, 3.4):
        _wheel(brush, x + wheel)


def _van(brush: Brush, x: float, name: str, telephone: str) -> None:
    _shadow(brush, x, 5.2)
    body = ((0, 0.35), (0.02, 0.95), (0.75, 1.2), (1.3, 2.0), (1.6, 2.15), (5.2, 2.15), (5.2, 0.35))
    glass = ((0.85, 1.2), (1.36, 1.9), (1.9, 1.9), (1.9, 1.2))
    for shape, paint in ((body, WHITE), (glass, rgb("2b343c"))):
        brush.polygon([(x + dx, KERB_M + dy) for dx, dy in shape], paint)
    brush.box(x + 0.02, KERB_M + 0.4, x + 5.2, KERB_M + 0.62, rgb("b9bcc0"))
    brush.text(name, x + 3.6, KERB_M + 1.65, 0.34, 3.0, BLUE)
    brush.text(telephone, x + 3.6, KERB_M + 1.12, 0.3, 2.7, RED)
    for wheel in (1.0, 4.2):
        _wheel(brush, x + wheel)


def _shadow(brush: Brush, x: float, length: float) -> None:
    brush.disc(x + length / 2, KERB_M + 0.02, length * 0.54, rgb("47494d"), 0.07)


def _wheel(brush: Brush, x: float) -> None:
    for radius, color in ((0.4, rgb("3a3d42")), (0.34, BLACK), (0.2, rgb("b4b8bc")), (0.07, METAL)):
        brush.disc(x, KERB_M + 0.34, radius, color)
