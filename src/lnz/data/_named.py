"""Small named sets that are installed with a dependency or generated."""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from ..spaces import Binary, Categorical, Euclidean
from ._checks import missing_extra
from ._splits import Splits, split_shuffled


@functools.cache
def digits() -> Splits:
    # Reads the file of `sklearn.datasets.load_digits` directly, because importing scikit-learn takes a second.
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ImportError(missing_extra("The digits come with scikit-learn, which"))
    file = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(file, delimiter=",")
    x, labels = table[:, :-1].astype(np.uint8), table[:, -1].astype(int)
    protocol = "scikit-learn digits, intensities 0 to 16, 1257 train / 180 valid / 360 test"
    return split_shuffled(Splits("digits", Categorical(64, 17), x, x, x, (8, 8), protocol), 180, 360, labels)


@functools.cache
def binary_digits() -> Splits:
    grey = digits()
    train, valid, test = ((part >= 8).astype(np.uint8) for part in (grey.train, grey.valid, grey.test))
    protocol = grey.protocol + ", binary where the intensity is at least 8"
    return Splits("binary_digits", Binary(64), train, valid, test, (8, 8), protocol, grey.labels)


@functools.cache
def bars_and_stripes() -> Splits:
    """Pictures of full rows or full columns.

    Source: MacKay (2003), section 43.3.
    """
    random = np.random.RandomState(1)
    lines = random.randint(0, 2, (3000, 4)).astype(np.uint8)
    rows = np.repeat(lines[:, :, None], 4, axis=2)
    is_row = random.randint(0, 2, 3000).astype(bool)
    x = np.where(is_row[:, None, None], rows, rows.transpose(0, 2, 1)).reshape(-1, 16)
    protocol = "3000 draws of 4 x 4 bars and stripes, 2000 train / 500 valid / 500 test"
    return split_shuffled(Splits("bars_and_stripes", Binary(16), x, x, x, (4, 4), protocol), 500, 500)


@functools.cache
def two_moons() -> Splits:
    random = np.random.RandomState(3)
    angle, upper = np.pi * random.uniform(size=3000), random.randint(0, 2, 3000)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(upper, 1, -1)[:, None]
    x = x + np.where(upper[:, None], [0, 0], [1, 0.5]) + 0.1 * random.normal(size=x.shape)
    x = x.astype(np.float32)
    protocol = "3000 draws of two half circles with noise of 0.1, 2000 train / 500 valid / 500 test"
    return split_shuffled(Splits("two_moons", Euclidean(2), x, x, x, None, protocol), 500, 500, upper)


@functools.cache
def shifter() -> Splits:
    """Random bits, the same bits shifted around a ring by one place either way or not at all, and the shift.

    Source: Hinton and Sejnowski (1986), section 4.
    """
    random = np.random.RandomState(2)
    bits = random.randint(0, 2, (3000, 8)).astype(np.uint8)
    shift = random.randint(0, 3, 3000)
    moved = np.stack([np.roll(row, s - 1) for row, s in zip(bits, shift, strict=True)])
    x = np.concatenate([bits, moved, np.eye(3, dtype=np.uint8)[shift]], axis=1)
    protocol = "3000 draws of the 8-bit shifter with its label, 2000 train / 500 valid / 500 test"
    return split_shuffled(Splits("shifter", Binary(19), x, x, x, None, protocol), 500, 500)


@functools.cache
def energy_1() -> Splits:
    return _energy(1)


@functools.cache
def energy_2() -> Splits:
    return _energy(2)


@functools.cache
def energy_3() -> Splits:
    return _energy(3)


@functools.cache
def energy_4() -> Splits:
    return _energy(4)


def _energy(number: int) -> Splits:
    random = np.random.RandomState(3 + number)
    x = (_crescents(random, 6000) if number == 1 else _wave(random, number, 6000)).astype(np.float32)
    protocol = f"6000 exact draws of `lnz.distributions.PlanarEnergy({number})`, 2000 train / 1000 valid / 3000 test"
    return split_shuffled(Splits(f"energy_{number}", Euclidean(2), x, x, x, None, protocol), 1000, 3000)


def _crescents(random: np.random.RandomState, num: int) -> np.ndarray:
    """Draws of the first energy, by rejection in a box; by quadrature, 5.5e-12 of the mass lies outside the box."""
    z = random.uniform(-4.5, 4.5, (60 * num, 2))
    sides = np.exp(-0.5 * ((z[:, 0] - 2) / 0.6) ** 2) + np.exp(-0.5 * ((z[:, 0] + 2) / 0.6) ** 2)
    ring = np.exp(-0.5 * ((np.hypot(*z.T) - 2) / 0.4) ** 2)
    return z[random.uniform(size=len(z)) * 1.001 < ring * sides][:num]


def _wave(random: np.random.RandomState, number: int, num: int) -> np.ndarray:
    """Draws of the other energies: z1 has a plateau from -4 to 4 and half-normal tails of scale 0.4.

    Given z1, z2 is normal or a mixture of two normals.
    """
    tails = 0.4 * np.sqrt(2 * np.pi)
    beyond = 0.4 * random.normal(size=num)
    in_tails = random.uniform(size=num) * (8 + tails) < tails
    z1 = np.where(in_tails, beyond + 4 * np.sign(beyond), random.uniform(-4, 4, num))
    widths = {2: (0.4, 0.4), 3: (0.35, 0.35), 4: (0.4, 0.35)}[number]
    fork = [0 * z1, 3 * np.exp(-0.5 * ((z1 - 1) / 0.6) ** 2), 3 / (1 + np.exp(-(z1 - 1) / 0.3))][number - 2]
    is_second = random.uniform(size=num) * sum(widths) < widths[1]
    width = np.where(is_second, widths[1], widths[0])
    z2 = np.sin(0.5 * np.pi * z1) - is_second * fork + width * random.normal(size=num)
    return np.stack([z1, z2], axis=1)
