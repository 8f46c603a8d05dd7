"""`thalweg.torch` refuses wrong input before it changes anything; and its example."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class OnCuda(torch.Tensor):  # type: ignore[misc]
    """A CPU tensor that claims to be on a GPU, so that the test needs none."""

    device = property(lambda _: torch.device("cuda", 0))


class Dispatched(torch.Tensor):  # type: ignore[misc]
    """A tensor without plain storage, like DTensor."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(func, types, args, kwargs)


def one(**options: Any) -> Any:
    return torch.ones(3, **options).requires_grad_()


STRANGE = {
    "cuda": (
        lambda: torch.ones(3).as_subclass(OnCuda).requires_grad_(),
        ValueError,
        "'odd' must be on the CPU, got cuda:0",
    ),
    "meta": (
        lambda: one(device="meta"),
        ValueError,
        "'odd' must be on the CPU, got the meta device",
    ),
    "float8": (
        lambda: one().detach().to(torch.float8_e5m2).requires_grad_(),
        TypeError,
        "'odd' must be .* torch.bfloat16 or torch.float16, got torch.float8_e5m2",
    ),
    "complex": (
        lambda: one(dtype=torch.complex64),
        TypeError,
        "'odd' must be .*, got torch.complex64",
    ),
    "sparse": (
        lambda: torch.eye(3).to_sparse().requires_grad_(),
        TypeError,
        "'odd' must be dense .*, got torch.sparse_coo",
    ),
    "a subclass": (
        lambda: torch.Tensor._make_subclass(Dispatched, torch.ones(3), require_grad=True),
        TypeError,
        "'odd' must be a plain torch.Tensor .*, got Dispatched",
    ),
    "lazy": (lambda: torch.nn.LazyLinear(3).weight, ValueError, "'odd' has no shape yet"),
    "expanded": (
        lambda: torch.ones(1).expand(3).requires_grad_(),
        ValueError,
        "elements of parameter 'odd' share memory",
    ),
}


@pytest.mark.parametrize(("make", "exception", "message"), STRANGE.values(), ids=STRANGE)
def test_tensors_that_cannot_be_updated_are_refused(
    make: Any, exception: type, message: str
) -> None:
    usual, group = one(), {"params": [make()], "param_names": ["odd"]}
    with pytest.raises(exception, match=message):
        thalweg.torch.AdamW([group])
    opt = thalweg.torch.AdamW([{"params": [usual], "param_names": ["w"]}])
    with pytest.raises(exception, match=message):
        opt.add_param_group(group)
    usual.grad = torch.ones(3)
    opt.step()
    assert (opt.report.step, len(opt.param_groups)) == (1, 1)


def test_overlapping_parameters_are_refused() -> None:
    memory = torch.zeros(6)
    for halves in ((memory[:4], memory[2:]), (memory, memory.view(2, 3))):
        params = [half.detach().requires_grad_() for half in halves]
        with pytest.raises(ValueError, match="share memory"):
            thalweg.torch.AdamW(params)
    apart = [memory[:3].requires_grad_(), memory[3:].requires_grad_()]
    opt = thalweg.torch.AdamW(apart)
    apart[1].data = apart[0].data  # tied later
    apart[0].grad = apart[1].grad = torch.ones(3)
    with pytest.raises(ValueError, match="share memory"):
        opt.step()
    assert memory.eq(0).all()


def test_a_parameter_given_twice_is_updated_once_with_a_warning() -> None:
    param, other = one(), one()
    with (
        pytest.warns(UserWarning, match="a parameter group with duplicate parameters"),
        pytest.warns(UserWarning, match="updates it once per step"),
    ):
        opt = thalweg.torch.SGD([param, other, param], lr=0.5, momentum=0.5)
    param.grad = other.grad = torch.ones(3)
    opt.step()
    assert param.tolist() == other.tolist() == [0.5] * 3
    saved = opt.state_dict()
    opt.load_state_dict(saved)
    opt.step()
    assert param.tolist() == other.tolist() == [-0.25] * 3
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        opt.add_param_group({"params": [other]})


BAD_GRADIENTS = {
    "sparse": (lambda: torch.ones(3).to_sparse(), TypeError, "the optimizer must be told"),
    "NaN": (lambda: torch.tensor([1.0, float("nan"), 1.0]), FloatingPointError, r"second \(1\)"),
}


@pytest.mark.parametrize(
    ("make", "exception", "message"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS
)
def test_a_bad_gradient_in_one_group_leaves_all_groups_unchanged(
    make: Any, exception: type, message: str
) -> None:
    first, second = one(), one()
    opt = thalweg.torch.AdamW(
        [
            {"params": [first], "param_names": ["first"]},
            {"params": [second], "param_names": ["second"]},
        ]
    )
    first.grad = second.grad = torch.ones(3)
    opt.step()
    kept = [first.tolist(), second.tolist(), opt.state_dict()]
    second.grad = make()
    with pytest.raises(exception, match=message):
        opt.step()
    assert opt.report is None
    now = [first.tolist(), second.tolist(), opt.state_dict()]
    assert str(now) == str(kept)


def test_a_model_that_changed_its_dtype_is_refused() -> None:
    model = torch.nn.Linear(2, 1)
    opt = thalweg.torch.AdamW(model.parameters())
    model.double()
    model(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    with pytest.raises(ValueError, match=r"must be float32 .* as before, got float64 \(1, 2\)"):
        opt.step()


def test_groups_whose_parameters_were_replaced_are_refused() -> None:
    first, second = one(), one()
    opt = thalweg.torch.AdamW([first])
    first.grad = second.grad = torch.ones(3)
    for params in ([second], [first, second], []):
        opt.param_groups[0]["params"][:] = params
        with pytest.raises(ValueError, match=r"param_groups\[0\]\['params'\] was changed"):
            opt.step()
    assert first.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("rule", "key", "value", "message"),
    [
        (
            "AdamW",
            "lr",
            -1e-3,
            "Invalid learning rate: -0.001 in .*; lr must be finite and at least 0",
        ),
        ("AdamW", "lr", "fast", "lr must be a number"),
        (
            "AdamW",
            "betas",
            (0.9, 1.0),
            "Invalid beta parameter at index 1: 1.0 in .* less than 1, got 1.0",
        ),
        ("AdamW", "betas", (-1, 0.9), "Invalid beta parameter at index 0: -1 in"),
        ("AdamW", "betas", 0.9, r"betas of param_groups\[0\] must be two numbers"),
        ("AdamW", "eps", 0.0, "^eps must be finite and at least 1e-15"),
        ("AdamW", "eps", -1.0, "Invalid epsilon value: -1.0 in"),
        (
            "AdamW",
            "weight_decay",
            -1,
            "Invalid weight_decay value: -1 in .*; weight_decay must be finite",
        ),
        ("AdamW", "weight_decay", "much", "weight_decay must be a number"),
        ("AdamW", "weight_decay", float("nan"), "weight_decay must be finite"),
        ("AdamW", "weight_decay", torch.ones(2), "got a tensor of shape"),
        ("AdamW", "capturable", True, "capturable must be False"),
        ("AdamW", "differentiable", True, "differentiable must be False"),
        ("RAdam", "betas", (0.9, 1.0), "Invalid beta parameter at index 1: 1.0 in"),
        ("RAdam", "weight_decay", -1, "Invalid weight_decay value: -1 in"),
        ("RAdam", "capturable", True, "capturable must be False"),
        ("RMSprop", "alpha", -0.5, "Invalid alpha value: -0.5 in .*; alpha must be at least 0"),
        ("RMSprop", "alpha", 1.0, "Invalid alpha value: 1.0 in .* less than 1, got 1.0"),
        ("RMSprop", "alpha", torch.ones(2), "Tensor alpha must be 1-element"),
        ("RMSprop", "momentum", -0.5, "Invalid momentum value: -0.5 in"),
        ("RMSprop", "eps", -1.0, "Invalid epsilon value: -1.0 in"),
        ("RMSprop", "capturable", True, "capturable must be False"),
        ("Adagrad", "lr_decay", -1, "Invalid lr_decay value: -1 in .*; lr_decay must be finite"),
        ("Adagrad", "initial_accumulator_value", -1, "Invalid initial_.*_value value: -1 in"),
        ("Adagrad", "weight_decay", "much", "weight_decay must be a number"),
        ("Adagrad", "differentiable", True, "differentiable must be False"),
    ],
)
def test_wrong_hyperparameters_are_refused_in_the_constructor_and_later(
    rule: str, key: str, value: Any, message: str
) -> None:
    param, frozen = one(), torch.ones(3)
    for params in ([param], [frozen]):
        with pytest.raises((TypeError, ValueError), match=message):
            getattr(thalweg.torch, rule)(params, **{key: value})
    opt = getattr(thalweg.torch, rule)([param])
    param.grad = torch.ones(3)
    good = opt.param_groups[0][key]
    opt.param_groups[0][key] = value
    with pytest.raises((TypeError, ValueError), match=message):
        opt.step()
    assert param.tolist() == [1.0] * 3
    opt.param_groups[0][key] = good
    opt.step()
    assert opt.report.step == 1


def test_options_must_be_the_same_in_all_groups_and_valid() -> None:
    groups = [{"params": [one()]}, {"params": [one()], "amsgrad": True}]
    with pytest.raises(
        ValueError, match=r"amsgrad must be the same .*, got False in .* True in param_groups\[1\]"
    ):
        thalweg.torch.Adam(groups)
    groups = [{"params": [one()]}, {"params": [one()], "centered": True}]
    with pytest.raises(ValueError, match=r"centered must be the same .* True in param_groups\[1\]"):
        thalweg.torch.RMSprop(groups)
    with pytest.raises(
        ValueError, match="Nesterov momentum requires a momentum and zero dampening; mom"
    ):
        thalweg.torch.SGD([one()], nesterov=True)
    with pytest.raises(ValueError, match="nonfinite must be"):
        thalweg.torch.SGD([one()], nonfinite="warn")
    with pytest.raises(ValueError, match=r"Invalid momentum value: -0\.5 in"):
        thalweg.torch.SGD([one()], momentum=-0.5)
    with pytest.raises(ValueError, match="Invalid weight_decay value: -1 in"):
        thalweg.torch.SGD([one()], weight_decay=-1)


def test_the_example_reaches_its_stated_accuracy() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    path = Path(__file__).parents[2] / "examples" / "torch_digits.py"
    assert runpy.run_path(str(path))["main"]() > 0.98
