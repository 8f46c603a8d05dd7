"""`thalweg.torch` with smaller state, and with bfloat16 and float16 parameters."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
ml_dtypes = pytest.importorskip("ml_dtypes")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from torch_rules import in_thalweg, of_arrays  # noqa: E402

import thalweg  # noqa: E402
import thalweg.torch  # noqa: E402
from thalweg import compact  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small tensors are faster on one thread, above all next to other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NARROW = DTYPES[1:]
FORMATS = ["full", "bfloat16", "compact"]
SHAPES = {"large": (70, 80), "turned": (90, 70), "b": (70,), "scale": ()}
"""The first two are large enough for compact state."""
RULES: list[tuple[str, str, dict[str, Any]]] = [
    *(("Adam", state, {"weight_decay": 0.1, "maximize": True}) for state in FORMATS),
    *(("AdamW", state, {}) for state in FORMATS),
    ("AdamW", "full", {"amsgrad": True}),
    *(("SGD", state, {"momentum": 0.9, "dampening": 0.1}) for state in FORMATS[:2]),
    *(("SGD", state, {}) for state in FORMATS[:2]),
    *(("RAdam", state, {"decoupled_weight_decay": True}) for state in FORMATS),
    *(("RMSprop", state, {"momentum": 0.9, "weight_decay": 0.1}) for state in FORMATS),
    ("RMSprop", "full", {"centered": True, "maximize": True}),
    ("Adagrad", "full", {"lr_decay": 0.1, "initial_accumulator_value": 0.3}),
]
MIXES = hasattr(torch.Tensor, "grad_dtype")
"""Whether a gradient may have another dtype than its parameter; not in older versions of torch."""
mixed = pytest.mark.skipif(not MIXES, reason="this PyTorch has no grad_dtype")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_narrow = pytest.mark.parametrize("dtype", NARROW, ids=str)
each_rule = pytest.mark.parametrize(
    ("rule", "state", "options"), RULES, ids=[" ".join([r, s, *o]) for r, s, o in RULES]
)


def parameters(dtype: Any) -> dict[str, Any]:
    """Parameters, one of which has the strides of a transposed matrix."""
    generator = torch.Generator().manual_seed(0)
    params = {n: torch.randn(s, generator=generator).to(dtype) for n, s in SHAPES.items()}
    params["turned"] = params["turned"].t().contiguous().t()
    return {name: param.requires_grad_() for name, param in params.items()}


def gradient(shape: Any, step: int, dtype: Any) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step)).to(dtype)


def array(tensor: Any) -> Any:
    """A copy of a tensor as an array of the same dtype."""
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.detach().numpy().copy()


def bits(tensor: Any) -> bytes:
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return bytes(tensor.contiguous().numpy().tobytes())


class Run:
    """Parameters of a dtype and their optimizer, trained on fixed gradients."""

    def __init__(
        self, rule: str, state: str, options: dict[str, Any], dtype: Any, library: Any = None
    ) -> None:
        self.params = parameters(dtype)
        group = {"params": [*self.params.values()], "param_names": [*self.params]}
        how = {"state": state} if library is None else {}
        self.opt = getattr(library or thalweg.torch, rule)([group], lr=0.01, **how, **options)
        self.done = 0

    def train(self, steps: int = 3) -> Run:
        for _ in range(steps):
            self.done += 1
            for i, param in enumerate(self.params.values()):
                param.grad = gradient(param.shape, 10 * self.done + i, param.dtype)
            self.opt.step()
        return self

    def of(self, name: str) -> dict[str, Any]:
        """The state of a parameter."""
        found: dict[str, Any] = self.opt.state[self.params[name]]
        return found

    def weight(self, name: str) -> Any:
        """A parameter with every digit."""
        return exact(self.params[name], self.of(name).get("low"))

    def loaded(self, saved: Any, other: Run) -> Run:
        """This run with the parameters of another and a state dict."""
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(other.params[name])
        self.opt.load_state_dict(saved)
        self.done = other.done
        return self


def exact(param: Any, low: Any) -> Any:
    """A parameter with what it lacks, as float32."""
    if low is None or param.dtype is torch.float32:
        return param.detach().float().numpy()
    if param.dtype is torch.float16:
        return compact.join_float16(param.detach().numpy(), low.numpy())
    return compact.join_bfloat16(array(param), low.numpy())


def assert_same(one: Run, other: Run) -> None:
    """The same parameters and state, bit for bit."""
    for name, param in one.params.items():
        assert bits(param) == bits(other.params[name]), name
        mine, its = one.of(name), other.of(name)
        assert {k: (v.dtype, v.shape) for k, v in mine.items()} == {
            k: (v.dtype, v.shape) for k, v in its.items()
        }
        for key, value in mine.items():
            assert bits(value) == bits(its[key]), (name, key)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=mixed)], ids=["same", "float32"])
@each_dtype
@each_rule
def test_steps_have_the_bits_of_thalweg(
    rule: str, state: str, options: dict[str, Any], dtype: Any, whole: bool
) -> None:
    run = Run(rule, state, options, dtype)
    arrays = {name: array(param) for name, param in run.params.items()}
    plain = of_arrays(rule)(arrays, lr=0.01, state=state, **in_thalweg(rule, options))
    for step in range(4):
        grads = {}
        for i, (name, param) in enumerate(run.params.items()):
            given = gradient(param.shape, 10 * step + i, dtype)
            if whole:
                param.grad_dtype = None
                given = given.float() * 1.01
            param.grad, grads[name] = given, array(given)
        run.opt.step(max_norm=50.0 if step % 2 else None)
        report = plain.step(grads, max_norm=50.0 if step % 2 else None)
        assert run.opt.report == report
    counted = rule != "SGD" or state != "full"
    for name, param in run.params.items():
        assert array(param).tobytes() == arrays[name].tobytes()
        live = dict(plain.state[name])
        if not counted:
            live.pop("step")  # torch's SGD keeps no step count
        entry = run.of(name)
        assert entry.keys() == live.keys()
        for key, value in live.items():
            assert bits(entry[key]) == np.asarray(value, float if key == "step" else None).tobytes()
            assert entry[key].shape == np.shape(value)


def test_tensors_of_the_state_have_its_formats_and_are_live() -> None:
    run = Run("AdamW", "compact", {}, torch.bfloat16).train(1)
    entry = run.of("turned")
    assert {key: (value.dtype, tuple(value.shape)) for key, value in entry.items()} == {
        "step": (torch.float64, ()),
        "exp_avg": (torch.bfloat16, (90, 70)),
        "exp_avg_sq": (torch.uint8, (90, 70)),
        "exp_avg_sq_base": (torch.uint8, (99,)),
        "low": (torch.int16, (90, 70)),
    }
    before = {key: bits(value) for key, value in entry.items()}
    run.train(1)
    assert all(bits(entry[key]) != old for key, old in before.items())
    assert all(run.of("turned")[key] is value for key, value in entry.items())
    assert run.of("b")["exp_avg_sq"].dtype is torch.float32  # too small to matter
    # An edit in place takes effect.
    entry["exp_avg"].zero_()
    entry["exp_avg_sq"].zero_()
    entry["exp_avg_sq_base"].zero_()
    kept = run.weight("turned").copy()
    run.params["turned"].grad = torch.zeros(90, 70, dtype=torch.bfloat16)
    run.opt.param_groups[0]["weight_decay"] = 0.0
    run.opt.step()
    assert np.array_equal(run.weight("turned"), kept)


@each_narrow
@pytest.mark.parametrize("state", FORMATS)
def test_a_narrow_model_learns_by_steps_below_its_last_place(state: str, dtype: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 80, dtype=dtype)
    model = torch.nn.Linear(80, 60, dtype=dtype)
    target = (x.float() @ (model.weight.detach().float() + 0.03).t()).to(dtype)
    opt = thalweg.torch.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, state=state)
    losses = []
    for _ in range(500):
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x).float(), target.float())
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert model.weight.dtype is dtype
    assert losses[-1] < 0.02 * losses[0]


def test_a_step_tells_autograd_and_the_report() -> None:
    w = torch.full((3,), 65000.0, dtype=torch.float16, requires_grad=True)
    opt = thalweg.torch.AdamW([("w", w)], lr=600.0)
    (loss := (w * w).sum()).backward(retain_graph=True)
    w.grad = -torch.ones(3, dtype=torch.float16)
    opt.step(stats=True)
    assert opt.report is not None
    assert opt.report.overflowed == ("w",)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    "given",
    [
        lambda: torch.tensor(2.0).bfloat16().expand(3),
        lambda: torch.full((3,), 2.0).bfloat16().requires_grad_(),
        lambda: torch.full((6,), 2.0).bfloat16()[::2],
        pytest.param(lambda: torch.full((3,), 2.0, dtype=torch.float16), marks=mixed),
        pytest.param(lambda: torch.full((3,), 2.0, dtype=torch.float64), marks=mixed),
        pytest.param(lambda: torch.full((3,), -2j).conj().imag, marks=mixed),
    ],
    ids=["expanded", "requires grad", "sliced", "float16", "float64", "negated"],
)
def test_any_dense_gradient_is_accepted(given: Callable[[], Any]) -> None:
    w = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    w.grad_dtype = None
    w.grad = given()
    thalweg.torch.SGD([w], lr=0.25).step()
    assert w.tolist() == [0.5] * 3


@each_dtype
def test_one_group_may_ascend_and_another_descend(dtype: Any) -> None:
    up, down, back = (torch.ones(3, dtype=dtype).requires_grad_() for _ in range(3))
    whole = torch.ones(3, requires_grad=True)
    groups = [{"params": [down]}, {"params": [up, whole], "maximize": True}, {"params": [back]}]
    opt = thalweg.torch.SGD(groups, lr=0.25)
    for param in (up, down, back, whole):
        param.grad = torch.tensor([1.0, -2.0, 0.0]).to(param.dtype)
    opt.step()
    assert down.tolist() == back.tolist() == [0.75, 1.5, 1.0]
    assert up.tolist() == whole.tolist() == [1.25, 0.5, 1.0]
    assert up.grad.tolist() == [1.0, -2.0, 0.0]


WAYS: dict[str, Callable[[Run, Callable[[], Run]], Run]] = {}


def way(copied: Callable[[Run, Callable[[], Run]], Run]) -> None:
    WAYS[copied.__name__] = copied


@way
def through_a_file(run: Run, make: Callable[[], Run]) -> Run:
    file = BytesIO()
    torch.save(run.opt.state_dict(), file)
    file.seek(0)
    return make().loaded(torch.load(file, weights_only=True), run)


@way
def live(run: Run, make: Callable[[], Run]) -> Run:
    return make().loaded(run.opt.state_dict(copy=False), run)


@way
def pickled(run: Run, _: Callable[[], Run]) -> Run:
    other: Run = pickle.loads(pickle.dumps(run))  # noqa: S301 - our own
    return other


@way
def deep_copied(run: Run, _: Callable[[], Run]) -> Run:
    return copy.deepcopy(run)


@pytest.mark.parametrize("how", WAYS)
@each_dtype
@each_rule
def test_a_run_resumes_to_the_same_bits(
    rule: str, state: str, options: dict[str, Any], dtype: Any, how: str
) -> None:
    run = Run(rule, state, options, dtype).train()
    other = WAYS[how](run, lambda: Run(rule, state, options, dtype))
    assert_same(other, run)
    assert_same(other.train(), run.train())
    assert other.opt.param_groups[0]["lr"] == 0.01


@each_dtype
@pytest.mark.parametrize("here", FORMATS)
@pytest.mark.parametrize("there", [*FORMATS, "torch"])
def test_state_of_another_format_is_converted(there: str, here: str, dtype: Any) -> None:
    library = torch.optim if there == "torch" else None
    run = Run("AdamW", there, {}, dtype, library).train()
    other = Run("AdamW", here, {}, dtype).loaded(run.opt.state_dict(), run)
    formats = Run("AdamW", here, {}, dtype).train(1)
    for name in SHAPES:
        entry, its = run.of(name), other.of(name)
        assert {k: v.dtype for k, v in its.items()} == {
            k: v.dtype for k, v in formats.of(name).items()
        }
        assert its["step"] == 3
        low = entry.get("low")
        if "low" in its:
            assert torch.equal(its["low"], torch.zeros_like(its["low"]) if low is None else low)
        numbers = {}
        for key in ("exp_avg", "exp_avg_sq"):
            number = entry[key].float().numpy()
            if entry[key].dtype is torch.uint8:
                number = compact.decode_e5m3(entry[key].numpy(), entry[f"{key}_base"].numpy())
            numbers[key] = number
            if its[key].dtype is torch.bfloat16:
                assert torch.equal(its[key], torch.from_numpy(number).bfloat16())
            elif its[key].dtype is torch.float32:
                assert np.array_equal(its[key].numpy(), number)
            elif entry[key].dtype is torch.uint8:
                assert torch.equal(its[key], entry[key])
            else:
                codes, base = compact.encode_e5m3(number)
                assert np.array_equal(its[key].numpy(), codes)
                assert np.array_equal(its[f"{key}_base"].numpy(), base)
    other.train()
    assert other.opt.report.step == 6


def test_float64_parameters_take_smaller_state() -> None:
    for there in FORMATS:
        run = Run("AdamW", there, {}, torch.float32).train()
        other = Run("AdamW", "full", {}, torch.float64).loaded(run.opt.state_dict(), run)
        assert all(other.of(n)["exp_avg_sq"].dtype is torch.float64 for n in SHAPES)
        other.train()


@pytest.mark.parametrize(("there", "here"), [(a, b) for a in DTYPES for b in DTYPES if a != b])
def test_a_model_changes_its_dtype_with_its_state(there: Any, here: Any) -> None:
    run = Run("AdamW", "full", {}, there).train()
    other = Run("AdamW", "compact", {}, here).loaded(run.opt.state_dict(), run)
    assert ("low" in other.opt.state_dict()["state"][0]) == (here is not torch.float32)
    other.train()
    assert other.opt.report.step == 6


@each_narrow
def test_torch_takes_over_a_run_with_full_state(dtype: Any) -> None:
    run = Run("AdamW", "full", {}, dtype).train()
    other = Run("AdamW", "", {}, dtype, torch.optim).loaded(run.opt.state_dict(), run)
    for one in (run, other):
        one.train(1)
    for name, param in run.params.items():
        assert torch.allclose(param.float(), other.params[name].float(), atol=2**-6, rtol=2**-7)


@each_narrow
def test_momentum_that_is_switched_on_later_begins_with_the_next_gradient(dtype: Any) -> None:
    for state in FORMATS[:2]:
        run = Run("SGD", state, {}, dtype).train()
        low = run.of("b")["low"].clone()
        run.opt.param_groups[0]["momentum"] = 0.5
        run.opt.param_groups[0]["dampening"] = 0.5
        kept = exact(run.params["b"], low)
        run.train(1)
        g = run.params["b"].grad.float().numpy()
        np.testing.assert_allclose(run.weight("b"), kept - np.float32(0.01) * g, rtol=1e-6)
        np.testing.assert_allclose(run.of("b")["momentum_buffer"].float(), g, rtol=2**-7)
        run.train()


@each_dtype
@pytest.mark.parametrize("rule", ["SGD", "RMSprop"])
def test_a_buffer_rests_while_momentum_is_zero(rule: str, dtype: Any) -> None:
    for state in FORMATS[:2]:
        run = Run(rule, state, {"momentum": 0.9}, dtype).train()
        buffer = bits(run.of("b")["momentum_buffer"])
        run.opt.param_groups[0]["momentum"] = 0.0
        run.train(2)
        assert bits(run.of("b")["momentum_buffer"]) == buffer
        run.opt.param_groups[0]["momentum"] = 0.9
        again = copy.deepcopy(run)
        run.train(2)
        assert bits(run.of("b")["momentum_buffer"]) != buffer
        assert_same(run, again.train(2))


def test_an_entry_without_momentum_keeps_the_rest_of_the_weight() -> None:
    run = Run("SGD", "full", {"momentum": 0.9}, torch.bfloat16).train()
    kept, low = run.weight("b").copy(), run.of("b")["low"]
    run.of("b")["momentum_buffer"] = None
    run.train(1)
    assert run.of("b")["low"] is not low
    g = run.params["b"].grad.float().numpy()
    np.testing.assert_allclose(run.weight("b"), kept - np.float32(0.01) * g, rtol=1e-6)


@each_narrow
def test_tensors_may_be_assigned_and_entries_deleted(dtype: Any) -> None:
    run = Run("AdamW", "compact", {}, dtype).train()
    twin = copy.deepcopy(run)
    for entry in run.opt.state.values():
        for key, value in entry.items():
            entry[key] = value.clone()
    assert_same(run.train(1), twin.train(1))
    run.of("large")["exp_avg"] = torch.full((70, 80), 2.0, dtype=torch.bfloat16)
    run.of("large").pop("low")
    twin.of("large")["exp_avg"].fill_(2.0)
    twin.of("large")["low"].zero_()
    assert_same(run.train(1), twin.train(1))
    del run.opt.state[run.params["large"]]
    run.of("turned").clear()
    run.train(1)
    assert [run.of(name)["step"].item() for name in SHAPES] == [1.0, 1.0, 6.0, 6.0]


BLOCKS = "must be a tensor of shape \\(88,\\), got a Tensor of shape"
REFUSED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda s: s.update(exp_avg=s["exp_avg"].float()), "must be torch.bfloat16, .* torch.float32"),
    (lambda s: s.update(exp_avg=s["exp_avg"].view(torch.int16)), "must be torch.bfloat16"),
    (lambda s: s.update(exp_avg_sq=s["exp_avg"]), "must be torch.uint8, .* got torch.bfloat16"),
    (lambda s: s.update(exp_avg_sq_base=torch.zeros(70, 80, dtype=torch.uint8)), BLOCKS),
    (lambda s: s.update(exp_avg_sq_base=torch.zeros(88)), "must be torch.uint8"),
    (
        lambda s: s.update(low=torch.zeros(70, 80)),
        "low of .* must be torch.int16, .* torch.float32",
    ),
    (lambda s: s.update(low=torch.zeros(88, dtype=torch.int16)), r"of shape \(70, 80\), got"),
    (lambda s: s.pop("exp_avg_sq_base"), "must have step, exp_avg, exp_avg_sq, exp_avg_sq_base, g"),
    (lambda s: s.pop("exp_avg"), "delete the whole entry"),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED)
def test_state_that_does_not_fit_is_refused_and_changes_nothing(
    edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    run = Run("AdamW", "compact", {}, torch.bfloat16).train()
    twin, good = copy.deepcopy(run), run.opt.state_dict()
    edit(run.of("large"))
    with pytest.raises(ValueError, match=message):
        run.opt.step()
    assert all(bits(p) == bits(twin.params[name]) for name, p in run.params.items())
    run.opt.load_state_dict(good)
    assert_same(run.train(1), twin.train(1))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.update(exp_avg_sq_base=torch.zeros(3, dtype=torch.uint8)), BLOCKS),
        (lambda s: s.update(exp_avg_sq_base=torch.zeros(88)), "must be torch.uint8"),
        (lambda s: s.update(low=torch.zeros(70, 80)), "low of .* must be torch.int16"),
        (lambda s: s.update(exp_avg=torch.zeros(80, 70)), r"shape \(70, 80\)"),
        (lambda s: s.pop("exp_avg_sq_base"), "must have step, exp_avg, exp_avg_sq, exp_avg_sq_ba"),
        (lambda s: s.pop("exp_avg_sq"), "must have step, exp_avg, exp_avg_sq, got"),
    ],
)
@pytest.mark.parametrize("here", FORMATS)
def test_a_state_dict_that_does_not_fit_changes_nothing(
    here: str, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    saved = Run("AdamW", "compact", {}, torch.bfloat16).train().opt.state_dict()
    run = Run("AdamW", here, {}, torch.bfloat16).train()
    twin = copy.deepcopy(run)
    edit(saved["state"][0])
    with pytest.raises(ValueError, match=message):
        run.opt.load_state_dict(saved)
    assert_same(run.train(1), twin.train(1))


@each_narrow
def test_new_memory_of_a_parameter_is_adopted(dtype: Any) -> None:
    run = Run("AdamW", "compact", {}, dtype).train()
    twin = copy.deepcopy(run)
    run.params["large"].data = run.params["large"].data.clone()
    run.params["turned"].data = run.params["turned"].data.contiguous()
    run.params["b"].share_memory_()
    assert_same(run.train(), twin.train())


def test_a_model_that_changed_its_dtype_is_refused() -> None:
    kinds = {"float32": "float", "bfloat16": "bfloat16", "float16": "half", "float64": "double"}
    for before, make in kinds.items():
        for after, change in kinds.items():
            if before == after:
                continue
            model = getattr(torch.nn.Linear(2, 1), make)()
            opt = thalweg.torch.AdamW(model.parameters())
            getattr(model, change)()
            for param in model.parameters():
                param.grad = torch.ones_like(param)
            message = rf"must be {before} \(1, 2\) as before, got {after} \(1, 2\); make"
            with pytest.raises(ValueError, match=message):
                opt.step()


@each_narrow
def test_parameters_join_and_wake(dtype: Any) -> None:
    first, second, third = (torch.ones(4, dtype=dtype) for _ in range(3))
    opt = thalweg.torch.AdamW([first.requires_grad_(), second], lr=0.1, state="bfloat16")
    first.grad = torch.ones(4, dtype=dtype)
    opt.step()
    assert second not in opt.state
    second.requires_grad_()
    opt.add_param_group({"params": [third.requires_grad_()], "lr": 0.2})
    opt.add_param_group({"params": [torch.ones(4, requires_grad=True)]})
    for param in (first, second, third):
        param.grad = torch.ones(4, dtype=dtype)
    opt.step()
    assert [opt.state[p]["step"].item() for p in (first, second, third)] == [2.0, 1.0, 1.0]
    assert all(opt.state[p]["low"].dtype is torch.int16 for p in (first, second, third))
    assert torch.allclose(second.float(), torch.full((4,), 0.9), atol=0.01)
    again = thalweg.torch.SGD([torch.ones(4, dtype=dtype)], lr=0.5)
    param = again.param_groups[0]["params"][0]
    param.requires_grad_()
    param.grad = torch.ones(4, dtype=dtype)
    again.step()
    assert again.state[param].keys() == {"low"}
    assert param.tolist() == [0.5] * 4


def test_state_moved_to_other_memory_is_not_used_and_saving_warns() -> None:
    for key in ("exp_avg", "exp_avg_sq", "exp_avg_sq_base", "low"):
        run = Run("AdamW", "compact", {}, torch.bfloat16).train()
        twin = copy.deepcopy(run)
        run.of("large")[key].share_memory_()
        run.train(1)
        with pytest.warns(UserWarning, match="the memory of a tensor in opt.state was replaced"):
            run.opt.state_dict()
        assert_same(run, twin.train(1))
        run.opt.state_dict()


def test_hooks_see_tensors_and_keys_of_other_programs_are_kept() -> None:
    run = Run("AdamW", "compact", {}, torch.bfloat16).train()
    run.of("b")["slow"] = torch.zeros(70)
    seen: list[Any] = []
    other = Run("AdamW", "compact", {}, torch.bfloat16)
    other.opt.register_load_state_dict_pre_hook(
        lambda _, saved: seen.extend(e["exp_avg_sq"].dtype for e in saved["state"].values())
    )
    for _ in range(2):
        other.loaded(run.opt.state_dict(), run)
    assert seen == [torch.uint8, torch.uint8, torch.float32, torch.float32] * 2
    assert other.of("b")["slow"].dtype is torch.bfloat16  # cast by torch
    with pytest.raises(ValueError, match="different number of parameter groups"):
        other.opt.load_state_dict({"state": {}, "param_groups": []})
    full = Run("AdamW", "full", {}, torch.float32).loaded(run.opt.state_dict(), run)
    assert full.of("b").keys() == {"step", "exp_avg", "exp_avg_sq", "slow"}


@pytest.mark.parametrize("flat", [False, True], ids=["whole", "flat"])
@pytest.mark.parametrize("state", FORMATS)
def test_distributed_checkpoints_keep_the_bits(state: str, flat: bool) -> None:
    parts = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    how = parts.StateDictOptions(flatten_optimizer_state_dict=flat)
    pairs = []
    for _ in range(2):
        torch.manual_seed(0)
        model = torch.nn.Linear(80, 60, dtype=torch.bfloat16)
        pairs.append((model, thalweg.torch.AdamW(model.parameters(), lr=0.1, state=state)))

    def train(model: Any, opt: Any) -> None:
        for step in range(3):
            opt.zero_grad()
            model(torch.full((2, 80), 1.0 + step, dtype=torch.bfloat16)).sum().backward()
            opt.step()

    (model, opt), (other, again) = pairs
    train(model, opt)
    saved = copy.deepcopy(parts.get_optimizer_state_dict(model, opt, options=how))
    other.load_state_dict(model.state_dict())
    parts.set_optimizer_state_dict(other, again, saved, options=how)
    for each in pairs:
        train(*each)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert bits(one) == bits(two)
        for key, value in opt.state[one].items():
            assert bits(value) == bits(again.state[two][key])


def test_formats_that_do_not_fit_are_refused() -> None:
    w = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    make = thalweg.torch.AdamW
    for given, error, message in (
        (
            {"state": "int8"},
            ValueError,
            "state must be 'full', 'bfloat16' or 'compact', got 'int8'",
        ),
        ({"state": None}, TypeError, "state must be a string"),
        ({"state": "compact", "amsgrad": True}, ValueError, "must be 'full' with amsgrad=True"),
    ):
        with pytest.raises(error, match=message):
            make([w], **given)
    with pytest.raises(ValueError, match="state must be 'full' or 'bfloat16', got 'compact'"):
        thalweg.torch.SGD([w], state="compact")
    with pytest.raises(ValueError, match="state must be 'full' with centered=True, got 'bfloat16'"):
        thalweg.torch.RMSprop([w], state="bfloat16", centered=True)
    double = torch.ones(3, dtype=torch.float64, requires_grad=True)
    message = "must be 'full', because the parameter is float64, got 'compact'"
    with pytest.raises(ValueError, match=message):
        make([double], state="compact")
    opt = make([w], state="compact")
    with pytest.raises(ValueError, match=message):
        opt.add_param_group({"params": [double]})
    opt.param_groups[0]["amsgrad"] = True
    w.grad = torch.ones_like(w)
    with pytest.raises(ValueError, match="must be 'full' with amsgrad=True"):
        opt.step()
    opt.param_groups[0]["amsgrad"] = False
    opt.step()
    assert opt.report.step == 1


@mixed
@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.complex64], ids=str)
def test_gradients_of_other_types_are_refused(dtype: Any) -> None:
    w = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    w.grad_dtype = None
    w.grad = torch.ones(3).to(dtype)
    message = rf"must be torch.float32, torch.float64, torch.bfloat16 or .* got {dtype}; assign"
    with pytest.raises(TypeError, match=message):
        thalweg.torch.SGD([w]).step()
    assert w.tolist() == [1.0] * 3
