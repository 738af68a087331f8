"""Fresh balanced subsets of a task: same seed, same subset; the smaller lie in the larger."""

import numpy as np

from tda.errors import UserError


def draw(
    label: np.ndarray, index: np.ndarray, classes: tuple[int, ...], size: int, seed: list[int]
) -> np.ndarray:
    """Draw ``size`` images of each class without replacement.

    A class is shuffled whole and cut after ``size``: so a smaller size gives a subset of a larger
    one, and neither the order of the images nor other sizes change what is drawn.

    Args:
        label: labels [N].
        index: original numbers [N].
        classes: the classes to draw from.
        size: images of each class.
        seed: entropy of the generator.

    Returns:
        Original numbers [len(classes) * size], class by class.

    Raises:
        UserError: a class has fewer than ``size`` images.
    """
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [_first(generator.permutation(np.sort(index[label == c])), size, c) for c in classes]
    )


def _first(shuffled: np.ndarray, size: int, label: int) -> np.ndarray:
    if len(shuffled) < size:
        raise UserError(
            f"class {label} has {len(shuffled)} images in this source, {size} are asked for: "
            "ask for fewer by --num_per_class or --num_test_per_class, or name a larger --source"
        )
    return shuffled[:size]
