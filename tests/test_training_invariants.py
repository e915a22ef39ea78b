"""What holds exactly: SAM that does nothing is torch.optim, SAM is its paper, the way back and the cost are exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from training_kit import B, N, gradient_of, kit, make_problem, plain_loop, sam_by_hand, settings, theta_of

from landscape.errors import UsageError
from landscape.problem import Problem
from landscape.training.batches import noisy_labels
from landscape.training.methods import METHODS, OPTIMIZERS
from landscape.training.noise import noisy_weights
from landscape.training.order import derive, generator
from landscape.training.perturbation import per_tensor_perturbation, sam_perturbation
from landscape.training.rates import learning_rate, radius
from landscape.training.run import train
from landscape.vector import Layout

P = [1.0, 1.01, 1.5, 2.0, 3.0, 50.0, math.inf]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem()


NOTHING = {
    "never": {"method": "sgd"},
    "rho zero": {"method": "sam", "rho": 0.0},
    "E = T, n > T": {"method": "psam", "switch": 1.0, "period": 10**6, "rho": 0.0},
    "rho zero, p = 1": {"method": "sam", "rho": 0.0, "norm": 1.0},
    "rho zero, per tensor": {"method": "sam", "rho": 0.0, "scope": "layer"},
    "asam rho zero": {"method": "asam", "rho": 0.0},
    "gsam alpha zero": {"method": "gsam", "rho": 0.0, "alpha": 0.0},
    "looksam alpha zero": {"method": "looksam", "rho": 0.0, "alpha": 0.0},
    "sam-on rho zero": {"method": "sam-on", "rho": 0.0},
    "ssam-d rho zero": {"method": "ssam-d", "rho": 0.0},
    "m is the batch": {"method": "sgd", "m": B},
}


@pytest.mark.parametrize("values", NOTHING.values(), ids=NOTHING.keys())
def test_without_perturbation_training_is_plain_sgd_bit_for_bit(problem: Problem, values: dict[str, object]) -> None:
    chosen = settings(epochs=9, **values)
    ours = train(problem, chosen, stop_at=50)
    theirs = plain_loop(
        problem, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4), chosen, 50
    )
    assert torch.equal(ours.theta, theta_of(theirs))
    assert all(torch.equal(ours.buffers[name], value) for name, value in theirs.named_buffers())


def test_psam_before_its_first_sam_step_is_sgd(problem: Problem) -> None:
    """With E = T and n > T step 0 alone is a SAM step: from there on a fork from SGD's step 1 never perturbs."""
    stem = train(problem, settings(method="sgd", epochs=9), stop_at=1)
    branch = train(problem, settings(method="psam", epochs=9, switch=1.0, period=10**6, rho=5.0), start=stem)
    assert torch.equal(branch.theta, train(problem, settings(method="sgd", epochs=9)).theta)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_elementwise_optimizer_is_torch_s_own_bit_for_bit(problem: Problem, name: str) -> None:
    maker = next(found for key, found in vars(torch.optim).items() if key.lower() == name)
    chosen = settings(method="sam", rho=0.0, optimizer=name, lr=1e-2, momentum=0.0, weight_decay=0.0, epochs=9)
    extra = {"weight_decay": 0.0} if name == "adamw" else {}
    theirs = plain_loop(problem, lambda p: maker(p, lr=1e-2, **extra), chosen, 50)
    assert torch.equal(train(problem, chosen, stop_at=50).theta, theta_of(theirs))


def test_momentum_and_decay_reach_the_optimizers_that_take_them(problem: Problem) -> None:
    chosen = settings(method="sgd", optimizer="rmsprop", lr=1e-3)
    theirs = plain_loop(problem, lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, weight_decay=5e-4), chosen, 36)
    assert torch.equal(train(problem, chosen).theta, theta_of(theirs))


@pytest.mark.parametrize("norm", P)
def test_perturbation_meets_hoelder_with_equality(norm: float) -> None:
    g = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q = math.inf if norm == 1 else 1.0 if math.isinf(norm) else norm / (norm - 1)
    epsilon = sam_perturbation(g, 0.3, norm)
    assert math.isclose(torch.linalg.vector_norm(epsilon, ord=norm), 0.3, rel_tol=1e-9)
    assert math.isclose(float(epsilon @ g), 0.3 * float(torch.linalg.vector_norm(g, ord=q)), rel_tol=1e-6)


@pytest.mark.parametrize("norm", P)
def test_per_tensor_perturbation_has_the_same_length_and_equal_shares(norm: float) -> None:
    layout = Layout(("a", "b"), ((30,), (5, 2)))
    g = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    epsilon = per_tensor_perturbation(g, 0.3, norm, layout)
    lengths = [torch.linalg.vector_norm(epsilon[place], ord=norm) for _, _, place in layout.slices()]
    assert math.isclose(torch.linalg.vector_norm(epsilon, ord=norm), 0.3, rel_tol=1e-9)
    assert math.isclose(lengths[0], lengths[1], rel_tol=1e-9)


@pytest.mark.parametrize("norm", P)
def test_a_zero_gradient_perturbs_nothing(norm: float) -> None:
    assert torch.equal(sam_perturbation(torch.zeros(5), 0.1, norm), torch.zeros(5))


def test_twenty_steps_of_sam_equal_a_loop_written_from_the_paper(problem: Problem) -> None:
    chosen = settings(method="sam")
    ours = kit(problem, chosen)
    for t in range(20):
        ours.stepper.step(t, learning_rate(chosen, N, t))
    theirs = plain_loop(
        problem, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4), chosen, 20,
        sam_by_hand, torch.float64,
    )  # fmt: skip
    assert torch.allclose(ours.flat.theta, theta_of(theirs), rtol=0, atol=1e-12)  # rounding of 20 float64 steps
    assert all(
        torch.allclose(value, dict(theirs.named_buffers())[name], rtol=0, atol=1e-12)
        for name, value in ours.flat.model.named_buffers()
    )


def test_m_sharpness_is_the_average_of_independent_chunks(problem: Problem) -> None:
    chosen = settings(method="sam", m=2)
    ours = kit(problem, chosen)
    ours.step(0)
    x, y = ours.batches(0)
    parts = []
    for k in range(4):
        model = problem.build(0, dtype=torch.float64)
        seed = derive(0, "noise", 0) if k == 0 else derive(derive(0, "noise", 0), "chunk", k)

        def backward(model: nn.Module = model, seed: int = seed, k: int = k) -> None:
            model.zero_grad()
            torch.manual_seed(seed)
            nn.functional.cross_entropy(model(x[2 * k : 2 * k + 2]), y[2 * k : 2 * k + 2]).backward()

        backward()
        sam_by_hand(model, backward)
        parts.append(gradient_of(model))
    assert torch.allclose(ours.flat.gradient, torch.stack(parts).mean(0), rtol=0, atol=1e-13)
    assert (ours.passes.forward, ours.passes.backward) == (2, 2)


@pytest.mark.parametrize("m", [3, 5])
def test_gradient_accumulation_weighs_uneven_chunks_by_their_examples(m: int) -> None:
    def without_batchnorm(seed: int = 0) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    whole, cut = (kit(make_problem(without_batchnorm), settings(m=size)) for size in (0, m))
    whole.step(0)
    cut.step(0)
    assert torch.allclose(whole.flat.gradient, cut.flat.gradient, rtol=0, atol=1e-14)
    assert cut.passes.forward == 1


def _number(text: str, letters: dict[str, float]) -> float:
    for sign, plain in (("−", "-"), ("·", "*"), ("β", "beta"), ("γ", "gamma")):
        text = text.replace(sign, plain)
    return float(eval(text, {}, letters))


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_counted_is_the_cost_in_the_table(problem: Problem, name: str) -> None:
    chosen = settings(method=name, inner_steps=3, samples=2, mask_every=2, fisher_examples=4)
    made = train(problem, chosen)
    held = chosen.held_out(N)
    letters = {
        "E": chosen.switch_step(N), "T": made.steps, "n": chosen.period, "B": B, "N": N - held, "V": held, "P": 6,
        "F": 4, "R": 3, "L": 3, "K": 2, "beta": 0.5, "gamma": 0.5,
    }  # fmt: skip
    assert made.cost == pytest.approx(_number(METHODS[name].cost, letters), abs=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_storage_never_moves_and_views_stay_views(problem: Problem, name: str) -> None:
    ours = kit(problem, settings(method=name, inner_steps=2, fisher_examples=2, mask_every=1), lr=0.1)
    tensors = (ours.flat.theta, ours.flat.gradient, *ours.passes.parameters)
    places = [t.data_ptr() for t in tensors] + [p.grad.data_ptr() for p in ours.passes.parameters if p.grad is not None]
    for t in range(8):
        ours.step(t)
    after = [t.data_ptr() for t in tensors] + [p.grad.data_ptr() for p in ours.passes.parameters if p.grad is not None]
    assert after == places
    assert torch.equal(theta_of(ours.flat.model), ours.flat.theta)
    assert all(p.requires_grad for p in ours.passes.parameters)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].gradient != "entropy"])
def test_the_way_back_is_exact_and_the_clean_pass_alone_moves_statistics(problem: Problem, name: str) -> None:
    ours = kit(problem, settings(method=name, rho=10.0, sigma=1e-9, switch=0.0))  # lr = 0
    before, reference = ours.flat.theta.clone(), problem.build(0, dtype=torch.float64)
    ours.step(0)
    torch.manual_seed(derive(0, "noise", 0))
    reference(ours.batches(0)[0])
    assert torch.equal(ours.flat.theta, before)
    for key, value in reference.named_buffers():
        assert torch.allclose(value, dict(ours.flat.model.named_buffers())[key], rtol=0, atol=1e-6), key


@pytest.mark.parametrize("name", METHODS)
def test_a_zero_gradient_never_gives_nan(name: str) -> None:
    def dead(seed: int = 0) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 3))
        nn.init.zeros_(model[2].weight)
        return model

    ours = make_problem(dead)
    ours.train.inputs.zero_()
    balanced = torch.arange(N) % 3  # a batch of 6 has two of each class: the gradient of the bias is 0
    ours.train.targets.copy_(balanced)
    made = train(ours, settings(method=name, batch_size=6, m=0, weight_decay=0.0, inner_steps=2, clip=1.0))
    assert bool(torch.isfinite(made.theta).all())


def test_momentum_is_carried_across_a_switch(problem: Problem) -> None:
    stem = train(problem, settings(method="sgd"), stop_at=24)
    branch = train(problem, settings(method="sgd-sam"), start=stem)
    assert stem.optimizer["momentum_buffer"].norm() > 0
    assert torch.equal(branch.theta, train(problem, settings(method="sgd-sam")).theta)


def test_rates_are_those_of_their_sources() -> None:
    sqrt = settings(method="sam", lr_schedule="sqrt", rho_schedule="sqrt", rho=0.2)
    assert [learning_rate(sqrt, N, t) for t in (0, 3, 8)] == [0.1, 0.05, pytest.approx(0.1 / 3)]
    assert [radius(sqrt, N, t) for t in (0, 3, 8)] == [0.2, 0.1, pytest.approx(0.2 / 3)]
    gsam = settings(method="gsam", rho=0.2, rho_min=0.1)
    assert radius(gsam, N, 18) == pytest.approx(0.1 + 0.1 * learning_rate(gsam, N, 18) / 0.1)
    constant = settings(method="sam", lr_schedule="constant", rho_schedule="cosine", rho=0.2)
    assert learning_rate(constant, N, 30) == 0.1
    assert radius(constant, N, 18) == pytest.approx(0.1)
    swa = settings(method="swa")
    assert [learning_rate(swa, N, t) for t in (24, 30, 35)] == [learning_rate(settings(method="sgd"), N, 24)] * 3


def test_label_noise_changes_exactly_its_part_and_only_of_the_training_labels() -> None:
    targets = torch.arange(1000) % 7
    noisy = noisy_labels(targets, 0.2, seed=3)
    assert int((noisy != targets).sum()) == 200
    assert int(noisy.min()) >= 0
    assert int(noisy.max()) <= 6
    assert torch.equal(noisy, noisy_labels(targets, 0.2, seed=3))
    assert not torch.equal(noisy, noisy_labels(targets, 0.2, seed=4))
    problem = make_problem()
    before = problem.train.targets.clone()
    made = train(problem, settings(label_noise=0.5))
    assert torch.equal(problem.train.targets, before)
    assert made.settings["label_noise"] == 0.5
    assert not torch.equal(made.theta, train(problem, settings()).theta)


def test_label_smoothing_is_torch_s_own(problem: Problem) -> None:
    ours = kit(problem, settings(label_smoothing=0.1))
    made = train(problem, settings(label_smoothing=0.1), stop_at=1)
    model = problem.build(0)
    x, y = ours.batches(0)
    torch.manual_seed(derive(0, "noise", 0))
    loss = nn.functional.cross_entropy(model(x.float()), y, label_smoothing=0.1)
    assert torch.allclose(made.history["loss"][0], loss.detach(), atol=1e-6)


def test_cutout_blanks_a_square_and_nothing_else() -> None:
    problem = make_problem(crop=0)
    plain, cut = (kit(problem, settings(cutout=side)).batches(0)[0] for side in (0, 2))
    changed = (plain != cut).reshape(B, -1).sum(1)
    assert int(changed.max()) == 4
    assert int(changed.min()) >= 1
    assert bool((cut[plain != cut] == 0).all())


def test_clip_limits_what_the_optimizer_sees(problem: Problem) -> None:
    free, clipped = kit(problem, settings(method="sam")), kit(problem, settings(method="sam", clip=1e-3))
    free.step(0)
    clipped.step(0)
    length = torch.linalg.vector_norm(free.flat.gradient)
    assert torch.allclose(clipped.flat.gradient, free.flat.gradient * 1e-3 / length, rtol=1e-12, atol=0)


def test_weight_decay_may_take_part_in_the_perturbation(problem: Problem) -> None:
    plain, decayed = (
        kit(problem, settings(method="sam", weight_decay=0.5, decay_in_epsilon=on)) for on in (False, True)
    )
    epsilons = []
    for one in (plain, decayed):
        perturb = one.stepper._gradient._perturb  # type: ignore[attr-defined]
        epsilons.append(perturb(one.flat.theta, torch.zeros_like(one.flat.theta), 0))
    assert torch.equal(epsilons[0], torch.zeros_like(epsilons[0]))
    direction = plain.flat.theta / torch.linalg.vector_norm(plain.flat.theta)
    assert torch.allclose(epsilons[1], 0.1 * direction, rtol=0, atol=1e-15)


def test_gaussian_noise_of_one_backward_has_exactly_the_covariance_of_the_gradients() -> None:
    gradients = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = gradients - gradients.mean(0)
    covariance = centred.T @ centred / 6
    source = torch.Generator().manual_seed(1)
    draws = torch.stack([noisy_weights(6, 4, source).double() @ gradients for _ in range(20000)])
    assert torch.allclose(draws.mean(0), gradients.mean(0), atol=5 * math.sqrt(float(covariance.max()) / 4 / 20000))
    found = torch.cov(draws.T)
    assert torch.allclose(found, covariance / 4, atol=6 * float(covariance.max()) / 4 * math.sqrt(2 / 20000))


def test_parts_compose_and_impossible_ones_are_refused(problem: Problem) -> None:
    made = train(problem, settings(method="psam", adaptive="weights", average="swa", combine="gap", mask="dynamic"))
    assert {"average.mean", "mask.kept"} <= made.optimizer.keys()
    with pytest.raises(UsageError, match="needs the whole gradient"):
        train(problem, settings(method="looksam", mask="swp"))
    with pytest.raises(UsageError, match="has no mask"):
        train(problem, settings(method="entropy-sgd", mask="dynamic"))
    with pytest.raises(UsageError, match="has none"):
        train(make_problem(lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(16, 3))), settings(method="sam-on"))
    with pytest.raises(UsageError, match="held out"):
        train(problem, settings(method="swad", validation=0))


def test_generators_of_different_purposes_differ() -> None:
    def drawn(purpose: str) -> Tensor:
        return torch.rand(4, generator=generator(0, purpose, 0))

    assert not torch.equal(drawn("swp"), drawn("fisher"))
