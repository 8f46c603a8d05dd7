"""Sparse gradients of torch, and of SciPy, as rows."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import thalweg
from thalweg import Rows

torch = pytest.importorskip("torch")
thalweg_torch = pytest.importorskip("thalweg.torch")

RULES = [
    ("AdamW", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
]


def embedding(dtype: Any = torch.float32, *, sparse: bool = True) -> Any:
    torch.manual_seed(0)
    return torch.nn.Embedding(50, 4, sparse=sparse).to(dtype)


def backward(model: Any, turn: int) -> None:
    """Gradients with repeated rows; not coalesced."""
    words = torch.from_numpy(np.random.default_rng(turn).integers(0, 50, (3, 7)))
    (model(words) ** 3).sum().backward()


@pytest.mark.parametrize(("rule", "options"), RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", ["lazy", "dense"])
@pytest.mark.parametrize("coalesced", [False, True])
def test_a_sparse_gradient_is_that_of_its_rows(
    rule: str, options: dict[str, Any], dtype: Any, rows: str, *, coalesced: bool
) -> None:
    model = embedding(dtype)
    opt = getattr(thalweg_torch, rule)(model.parameters(), rows=rows, **options)
    twin = getattr(thalweg_torch, rule)(
        [again := copy.deepcopy(model).weight], rows=rows, **options
    )
    ours, theirs = opt._bound.native, twin._bound.native
    for turn in range(4):
        opt.zero_grad()
        backward(model, turn)
        gradient = model.weight.grad.coalesce() if coalesced else model.weight.grad
        model.weight.grad = gradient
        values = gradient._values()
        values = (
            values.view(torch.int16).numpy().view(np.uint16)
            if dtype == torch.bfloat16
            else (values.numpy())
        )
        given = Rows(gradient._indices()[0].numpy(), values)
        theirs.step({'param_groups[0]["params"][0]': given})
        opt.step()
        assert torch.equal(model.weight.detach(), again.detach())
    name = ours.leaf_names()[0]
    for key, array in (ours.state(name) or {}).items():
        assert array.tobytes() == theirs.state(name)[key].tobytes()
    assert rule == "SGD" or opt.state[model.weight]["step"].item() == 4


def test_dense_rows_are_a_dense_gradient() -> None:
    models = embedding(), embedding(sparse=False)
    for model in models:
        opt = thalweg_torch.AdamW(model.parameters(), lr=0.1, rows="dense")
        for turn in range(5):
            opt.zero_grad()
            backward(model, turn)
            opt.step(max_norm=1.0)
    assert torch.allclose(models[0].weight, models[1].weight, rtol=1e-5, atol=1e-6)


def test_lazy_rows_are_those_of_sparse_adam() -> None:
    """With its epsilon, which SparseAdam adds to the root before bias correction."""
    ours, theirs = embedding(torch.float64), embedding(torch.float64)
    opt = thalweg_torch.Adam(ours.parameters(), lr=0.1, rows="lazy")
    other = torch.optim.SparseAdam(theirs.parameters(), lr=0.1, eps=1e-4)
    for turn in range(20):
        for model, one in ((ours, opt), (theirs, other)):
            one.zero_grad()
            backward(model, turn)
        opt.param_groups[0]["eps"] = 1e-4 / np.sqrt(1 - 0.999 ** (turn + 1))
        opt.step()
        other.step()
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch warns about its own call
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ("lazy", {"lr_decay": 0.1}),
        ("lazy", {"maximize": True}),
        ("dense", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ],
)
def test_rows_of_adagrad_are_sparse_gradients_of_torch(rows: str, options: dict[str, Any]) -> None:
    ours, theirs = embedding(torch.float64), embedding(torch.float64)
    opt = thalweg_torch.Adagrad(ours.parameters(), lr=0.1, rows=rows, **options)
    other = torch.optim.Adagrad(theirs.parameters(), lr=0.1, **options)
    for turn in range(20):
        for model, one in ((ours, opt), (theirs, other)):
            one.zero_grad()
            backward(model, turn)
            one.step()
        assert torch.allclose(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    sums = [one.state[model.weight]["sum"] for model, one in ((ours, opt), (theirs, other))]
    assert torch.allclose(*sums, rtol=1e-12, atol=1e-12)


def test_lazy_rows_of_adagrad_begin_at_zero() -> None:
    model = embedding()
    message = r"rows must be 'dense' with an initial_.* other than 0, got 'lazy' and 0\.5 in param"
    with pytest.raises(ValueError, match=message):
        thalweg_torch.Adagrad(model.parameters(), rows="lazy", initial_accumulator_value=0.5)
    opt = thalweg_torch.Adagrad(model.parameters(), initial_accumulator_value=0.5)
    backward(model, 0)
    before = model.weight.detach().clone()
    opt.param_groups[0]["rows"] = "lazy"
    with pytest.raises(ValueError, match=message):
        opt.step()
    assert torch.equal(model.weight, before)


def test_groups_may_ascend_and_descend() -> None:
    models = embedding(), embedding()
    up, down = (model.weight for model in models)
    opt = thalweg_torch.AdamW(
        [{"params": [down], "maximize": False}, {"params": [up], "maximize": True}],
        lr=0.1,
        weight_decay=0.0,
        rows="lazy",
    )
    start = up.detach().clone()
    for model in models:
        backward(model, 0)
    opt.step()
    assert torch.allclose(up - start, start - down, atol=1e-6)
    assert not torch.equal(up, down)


def test_the_meaning_is_an_option_of_groups_and_saved() -> None:
    model = torch.nn.ModuleDict({"e": embedding(), "out": torch.nn.Linear(4, 1)})
    groups = [
        {"params": model["e"].parameters(), "rows": "lazy"},
        {"params": model["out"].parameters()},
    ]
    opt = thalweg_torch.AdamW(groups)
    assert [group.get("rows") for group in opt.param_groups] == ["lazy", None]
    model["out"](model["e"](torch.tensor([1, 2]))).sum().backward()
    opt.step()
    again = thalweg_torch.AdamW([{"params": model["e"].parameters()}, dict(groups[1])])
    again.load_state_dict(opt.state_dict())
    assert again.param_groups[0]["rows"] == "lazy"
    again.step()


def test_a_checkpoint_of_torch_has_no_meaning() -> None:
    model = embedding(sparse=False)
    theirs = torch.optim.Adam(model.parameters())
    backward(model, 0)
    theirs.step()
    opt = thalweg_torch.Adam(model.parameters(), rows="dense")
    opt.load_state_dict(theirs.state_dict())
    assert opt.param_groups[0]["rows"] == "dense"


def test_rows_of_a_sparse_matrix() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    entries = ([1.0, 2.0, 3.0, 4.0], ([4, 0, 4, 4], [1, 2, 0, 1]))
    for kind in (sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.csr_matrix):
        matrix = kind(entries, shape=(5, 3))
        rows = Rows.from_scipy(matrix)
        assert rows.indices.tolist() == [0, 4]
        one, other = np.ones((2, 5, 3))
        thalweg.AdamW(one, rows="dense").step(rows)
        thalweg.AdamW(other).step(matrix.toarray())
        assert (one == other).all()
    empty = Rows.from_scipy(sparse.csr_array((5, 3)))
    assert (len(empty), empty.values.shape) == (0, (0, 3))
    with pytest.raises(ValueError, match="two axes"):
        Rows.from_scipy(sparse.coo_array(np.ones(3)))
