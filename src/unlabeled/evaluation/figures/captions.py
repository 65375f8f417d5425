"""Titles and captions of the figures, in the order of a report. Imports nothing heavy.

A figure that is not here is the method's own (capabilities.DrawsFigures).
"""

from typing import NamedTuple


class Caption(NamedTuple):
    """The words for one figure."""

    text: str
    title: str = ""  # "": its name
    compared: bool = False  # whether runs are compared by it, side by side


CAPTIONS = {
    "samples": Caption(
        "Draws from the model. Are they sharp, are they varied, does any image come twice?", compared=True
    ),
    "classes": Caption("Draws from the model, a row for each class that training saw. Does every row show its class?"),
    "density": Caption(
        "Samples of the generator: brighter is denser; a circle is three standard deviations around a mode of the "
        "data. Is any circle empty, does anything lie between them? On a line: the densities of the data and of the "
        "samples, and the discriminator's score if the method has one.",
        compared=True,
    ),
    "nearest_training_images": Caption(
        "Each row: a sample, then the training images nearest to it; the samples with the nearest ones come first. "
        "The numbers are distances in units of the usual distance between a held-out image and its nearest training "
        "image: near 1 is as new as real images are, near 0 is a copy."
    ),
    "nearest_in_features": Caption("Samples, and the real image nearest to each in the features of the metrics."),
    "reconstructions": Caption(
        "Held-out images, and their reconstructions below. What is lost first: edges, thin strokes?", compared=True
    ),
    "interpolation": Caption(
        "Four codes in the corners, and everything between them. Every image on the way should be real.",
        title="four corners",
    ),
    "interpolations": Caption(
        "From one code to another. If the prior is Gaussian, also along the sphere: the middle of a straight line is "
        "shorter than what the model was trained on."
    ),
    "traversals": Caption(
        "One dimension of a code changed at a time, the most important first. Does a dimension change one thing?",
        compared=True,
    ),
    "neighbors": Caption(
        "Each row: an image, then those of the scored split whose codes are nearest in angle.", compared=True
    ),
    "class_arithmetic": Caption(
        "An image's code plus a multiple of (mean code of another class - mean code of its own): 1 is the whole way."
    ),
    "arithmetic_of_draws": Caption(
        "A drawn code plus a multiple of (mean code of another class - mean code of its own), with the classes that "
        "the extractor gives to drawn images: 1 is the whole way."
    ),
    "attributes": Caption(
        "An image's code plus a multiple of (mean code with the attribute - mean code without). Does anything else "
        "change along with it?"
    ),
    "attribute_sums": Caption("Arithmetic on mean codes of three images each, decoded."),
    "embedding": Caption(
        "Codes in the plane. Are the classes, which training never saw, apart?", title="map of codes", compared=True
    ),
    "anomalies": Caption("The images that the model finds most, and least, unusual."),
    "a_to_b": Caption(
        "Images of domain a, translated, and back again if the model can. Is the content kept?", "a to b", compared=True
    ),
    "b_to_a": Caption(
        "Images of domain b, translated, and back again if the model can. Is the content kept?", "b to a", compared=True
    ),
}
OWN = Caption("Drawn by the method itself.")


def caption(name: str) -> str:
    """The line under a figure's title."""
    return CAPTIONS.get(name, OWN).text


def title(name: str) -> str:
    """A figure's title."""
    return CAPTIONS.get(name, OWN).title or name.replace("_", " ")


def in_order(names: list[str]) -> list[str]:
    """As in `CAPTIONS`, the method's own last."""
    known = list(CAPTIONS)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))
