"""The study's networks: gradients that agree with finite differences, and NumPy alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from thalweg_study.models import MODELS, Floats, Integers, Model, Parameters, layers

EXTRA = {"jinja2", "matplotlib", "mlxtend", "rich", "scipy", "sklearn", "threadpoolctl"}
NUDGE = 1e-6
SAMPLE = 60

every_model = pytest.mark.parametrize("name", MODELS)
every_size = pytest.mark.parametrize("size", [(8, 8), (28, 28), (11, 9)], ids=str)


def network(name: str, size: tuple[int, int], dtype: type) -> tuple[Model, Parameters]:
    """Biases are drawn as well: at zero they could hide a gradient that is wrong."""
    generator = np.random.default_rng(3)
    model = MODELS[name](*size)
    parameters = model.initial(generator, dtype)
    for layer in parameters.values():
        layer["b"][...] = generator.standard_normal(layer["b"].shape) / 3
    return model, parameters


def batch(size: tuple[int, int], dtype: type, count: int = 4) -> tuple[Floats, Integers]:
    """Pictures without blank parts, so that no ReLU or maximum is within a nudge of its kink."""
    generator = np.random.default_rng(4)
    pictures: Floats = generator.standard_normal((count, *size)).astype(dtype)
    return pictures, generator.integers(0, 10, count)


def some_of(leaf: Floats) -> list[tuple[int, ...]]:
    """All indices of a small leaf, a random sample of those of a large one."""
    indices = list(np.ndindex(leaf.shape))
    if len(indices) <= SAMPLE:
        return indices
    return [indices[i] for i in np.random.default_rng(5).choice(len(indices), SAMPLE, False)]


@every_model
@every_size
def test_gradients_agree_with_finite_differences(name: str, size: tuple[int, int]) -> None:
    model, parameters = network(name, size, np.float64)
    pictures, labels = batch(size, np.float64)
    _, gradients = model.loss_and_gradients(parameters, pictures, labels)

    def difference(leaf: Floats, index: tuple[int, ...]) -> float:
        kept, losses = leaf[index], []
        for nudged in (kept + NUDGE, kept - NUDGE):
            leaf[index] = nudged
            losses.append(model.loss_and_gradients(parameters, pictures, labels)[0])
        leaf[index] = kept
        return (losses[0] - losses[1]) / (2 * NUDGE)

    for layer, leaves in parameters.items():
        for kind, leaf in leaves.items():
            gradient = gradients[layer][kind]
            indices = some_of(leaf)
            found = np.array([gradient[index] for index in indices])
            expected = np.array([difference(leaf, index) for index in indices])
            assert found.any()
            error = np.abs(found - expected).max() / np.abs(gradient).max()
            assert error < 1e-6, f"{layer}.{kind}"


@every_model
@every_size
def test_gradients_are_right_in_every_element(name: str, size: tuple[int, int]) -> None:
    """Along a random direction each element counts; one leaf is nudged at a time."""
    model, parameters = network(name, size, np.float64)
    pictures, labels = batch(size, np.float64)
    _, gradients = model.loss_and_gradients(parameters, pictures, labels)
    generator = np.random.default_rng(6)
    for layer, leaves in parameters.items():
        for kind, leaf in leaves.items():
            direction = generator.standard_normal(leaf.shape)
            direction /= np.linalg.norm(direction)
            losses = []
            for nudge in (NUDGE, -NUDGE):
                nudged = {**parameters, layer: {**leaves, kind: leaf + nudge * direction}}
                losses.append(model.loss_and_gradients(nudged, pictures, labels)[0])
            expected = (losses[0] - losses[1]) / (2 * NUDGE)
            gradient = gradients[layer][kind]
            assert np.vdot(gradient, direction) == pytest.approx(
                expected, rel=0, abs=1e-6 * np.abs(gradient).max()
            ), f"{layer}.{kind}"


@every_model
@every_size
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_like_the_parameters(name: str, size: tuple[int, int], dtype: type) -> None:
    model, parameters = network(name, size, dtype)
    pictures, labels = batch(size, dtype)
    loss, gradients = model.loss_and_gradients(parameters, pictures, labels)
    forms = [
        {
            (layer, kind): (leaf.shape, leaf.dtype)
            for layer, leaves in tree.items()
            for kind, leaf in leaves.items()
        }
        for tree in (parameters, gradients)
    ]
    assert forms[0] == forms[1]
    log_probabilities = model.log_probabilities(parameters, pictures)
    assert log_probabilities.dtype == dtype
    assert loss == pytest.approx(layers.cross_entropy(log_probabilities, labels), rel=1e-6)


@every_model
@pytest.mark.parametrize("scale", [1, 1e4])
def test_probabilities_add_up_to_one(name: str, scale: float) -> None:
    model, parameters = network(name, (8, 8), np.float32)
    pictures, _ = batch((8, 8), np.float32)
    log_probabilities = model.log_probabilities(parameters, pictures * np.float32(scale))
    assert log_probabilities.shape == (4, 10)
    assert np.isfinite(log_probabilities).all()
    np.testing.assert_allclose(np.exp(log_probabilities).sum(axis=1), 1, rtol=1e-5)


@every_model
def test_a_picture_has_the_same_probabilities_alone_and_among_many(name: str) -> None:
    model, parameters = network(name, (8, 8), np.float64)
    pictures, _ = batch((8, 8), np.float64, count=250)
    together = model.log_probabilities(parameters, pictures)
    assert len(together) == 250
    alone = [model.log_probabilities(parameters, picture[None])[0] for picture in pictures]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_windows_are_what_is_around_a_pixel() -> None:
    picture = np.arange(1.0, 7).reshape(1, 2, 3, 1)
    around = layers.windows(picture, 3)[:, :, 0, :, :, 0]
    assert around[:, :, 0, 0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert around[:, :, 1, 1].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0]]


@pytest.mark.parametrize("side", [3, 5])
def test_the_way_back_through_windows_is_its_adjoint(side: int) -> None:
    generator = np.random.default_rng(8)
    pictures = generator.standard_normal((2, 5, 4, 3))
    windows = layers.windows(pictures, side)
    to_windows = generator.standard_normal(windows.shape)
    to_pictures = layers.windows_backward(to_windows)
    assert to_pictures.shape == pictures.shape
    assert np.vdot(windows, to_windows) == pytest.approx(np.vdot(pictures, to_pictures))


@pytest.mark.parametrize("size", [(6, 4), (5, 7)], ids=str)
def test_the_way_back_through_pooling_is_the_adjoint_of_its_derivative(
    size: tuple[int, int],
) -> None:
    generator = np.random.default_rng(9)
    pictures, change = generator.standard_normal((2, 2, *size, 3))
    pooled = layers.max_pool(pictures)
    assert pooled.shape == (2, size[0] // 2, size[1] // 2, 3)
    to_pooled = generator.standard_normal(pooled.shape)
    to_pictures = layers.max_pool_backward(pictures, pooled, to_pooled)
    assert to_pictures.shape == pictures.shape
    # Small enough for the largest to stay the largest, where pooling is linear.
    tiny = 1e-6
    derivative = (layers.max_pool(pictures + tiny * change) - pooled) / tiny
    assert np.vdot(derivative, to_pooled) == pytest.approx(np.vdot(change, to_pictures), rel=1e-6)


@pytest.mark.parametrize(
    ("block", "shares"),
    [
        ([[2, 1], [0, 1]], [[1, 0], [0, 0]]),
        ([[0, 3], [3, 1]], [[0, 1 / 2], [1 / 2, 0]]),
        ([[5, 5], [1, 5]], [[1 / 3, 1 / 3], [0, 1 / 3]]),
        ([[0, 0], [0, 0]], [[1 / 4, 1 / 4], [1 / 4, 1 / 4]]),
    ],
)
def test_equal_pixels_share_the_gradient(
    block: list[list[float]], shares: list[list[float]]
) -> None:
    picture = np.array(block, np.float32).reshape(1, 2, 2, 1)
    to_picture = layers.max_pool_backward(
        picture, layers.max_pool(picture), np.full((1, 1, 1, 1), 6, np.float32)
    )
    assert to_picture.dtype == np.float32
    np.testing.assert_allclose(to_picture[0, ..., 0], 6 * np.array(shares), rtol=1e-6)


def test_networks_need_numpy_only() -> None:
    code = f"import sys, thalweg_study.models; print({EXTRA!r} & sys.modules.keys())"
    ended = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "set()\n"
