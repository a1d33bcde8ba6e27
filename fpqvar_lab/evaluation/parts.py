"""How the samples of a row are cut into parts, so that groups of equal size stay whole."""

from dataclasses import dataclass

from fpqvar_lab.evaluation.metrics import GROUP_COUNTS


@dataclass(frozen=True)
class Part:
    """Consecutive images of one group.

    Args:
        start: The number of the first image.
        count: The number of images.
        group: The group of the jackknife that they belong to.
    """

    start: int
    count: int
    group: int


def cut(images: int, together: int, size: int) -> list[Part]:
    """Cut images into parts of at most `size`, none of which crosses the border of a group.

    There are 20, 10 or 5 equal groups; one, which gives no interval, where no number fits.

    Args:
        images: The number of all images.
        together: The number of consecutive images that must stay in one group, such as one of
            each class.
        size: The length of the longest part.
    """
    groups = next((g for g in GROUP_COUNTS if images % (g * together) == 0), 1)
    length = images // groups
    return [
        Part(group * length + first, min(size, length - first), group)
        for group in range(groups)
        for first in range(0, length, size)
    ]
