"""Other libraries compute the same scores, in float64: curvlinops, kronfluence, captum.

pyDVL asks for numpy < 2 and cannot stand in req.txt; benchmarks/peers.py compares with it.
"""

import logging
import warnings

import pytest
import small_networks
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayestda as tda
from bayestda.curvature.gauss_newton import training_products
from bayestda.gradients.sample import SampleGradients
from bayestda.methods.conjugate_gradients import cg_influence
from bayestda.methods.ekfac import ekfac_influence
from bayestda.methods.grad_dot import grad_dot
from bayestda.methods.influence import hessian_influence
from bayestda.model.parameters import Parameters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import curvlinops
    import kronfluence
    from captum.influence import TracInCP
    from captum.influence._core.influence_function import NaiveInfluenceFunction
    from curvlinops.examples import IdentityLinearOperator
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # the other libraries' own
N, M, DAMPING = 8, 5, 0.3
CLOSE = {"rtol": 1e-8, "atol": 1e-10}


class Case:
    """A network with trained-looking gradients, and the library's view of it."""

    def __init__(self, name):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.network = small_networks.NETWORKS[name]().double()
        self.train, self.test = (
            small_networks.examples(name, count, seed) for count, seed in ((N, 1), (M, 2))
        )
        self.gradients = SampleGradients(
            self.network, tda.Classification(), Parameters(self.network).read(self.network),
            train=self.train, test=self.test, memory_bytes=1e9,
        )  # fmt: skip

    @property
    def batch(self):
        return [(self.train.x, self.train.y)]


@pytest.fixture(params=["mlp", "tiny_cnn"])
def case(request):
    return Case(request.param)


def operator(case, kind):
    parameters = list(case.network.parameters())
    return kind(case.network, nn.CrossEntropyLoss(), parameters, case.batch)


KINDS = {
    "gauss_newton": curvlinops.GGNLinearOperator,
    "hessian": curvlinops.HessianLinearOperator,
}


@pytest.mark.parametrize("curvature", KINDS)
def test_products_are_those_of_curvlinops(case, curvature):
    vectors_VP = torch.randn(3, case.gradients.layout.count, dtype=torch.float64)
    found = training_products(case.gradients, curvature)(vectors_VP)
    expected = operator(case, KINDS[curvature]) @ vectors_VP.T
    torch.testing.assert_close(found, expected.T, **CLOSE)


@pytest.mark.parametrize("curvature", KINDS)
def test_conjugate_gradients_are_those_of_curvlinops(case, curvature):
    damping = 2.0  # both are then positive definite
    train_NP, test_MP = (
        torch.cat([case.gradients.vectors(rows)[:, 0] for _, rows in blocks])
        for blocks in (case.gradients.train, case.gradients.test)
    )
    shapes = [p.shape for p in case.network.parameters()]
    eye = IdentityLinearOperator(shapes, train_NP.device, train_NP.dtype)
    inverse = curvlinops.CGInverseLinearOperator(
        operator(case, KINDS[curvature]) + damping * eye,
        tolerance=1e-12, eps=0, max_iter=200, max_tridiag_iter=0,
    )  # fmt: skip
    found = cg_influence(case.gradients, damping, curvature=curvature, tolerance=1e-12)
    torch.testing.assert_close(found, train_NP @ (inverse @ test_MP.T), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("curvature", "fisher"), [("gauss_newton", "type-2"), ("empirical_fisher", "empirical")]
)
def test_ekfac_is_that_of_curvlinops(case, curvature, fisher):
    matrix = curvlinops.EKFACLinearOperator(
        case.network, nn.CrossEntropyLoss(), list(case.network.parameters()), case.batch,
        fisher_type=fisher, separate_weight_and_bias=False, check_deterministic=False,
    )  # fmt: skip
    inverse = curvlinops.KFACInverseLinearOperator(matrix, damping=DAMPING, use_exact_damping=True)
    train_NP, test_MP = (
        torch.cat([case.gradients.vectors(rows)[:, 0] for _, rows in blocks])
        for blocks in (case.gradients.train, case.gradients.test)
    )
    found = ekfac_influence(case.gradients, DAMPING, curvature=curvature)
    expected = train_NP @ (inverse @ test_MP.T)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class Loss(Task):
    """Cross-entropy as kronfluence asks for it."""

    def compute_train_loss(self, batch, model, sample=False):
        assert not sample
        return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    def compute_measurement(self, batch, model):
        return self.compute_train_loss(batch, model)


def by_kronfluence(case, strategy, folder):
    """Scores [N M] with the empirical Fisher; every number in float64."""
    wide = torch.float64
    factors = FactorArguments(
        strategy=strategy, use_empirical_fisher=True, activation_covariance_dtype=wide,
        gradient_covariance_dtype=wide, per_sample_gradient_dtype=wide, lambda_dtype=wide,
    )  # fmt: skip
    scores = ScoreArguments(
        damping_factor=DAMPING, per_sample_gradient_dtype=wide, precondition_dtype=wide,
        score_dtype=wide,
    )  # fmt: skip
    network = kronfluence.prepare_model(case.network, Loss())
    analyzer = kronfluence.Analyzer(
        "oracle", network, Loss(), cpu=True, log_level=logging.ERROR, disable_tqdm=True,
        output_dir=str(folder),
    )  # fmt: skip
    train, test = (TensorDataset(part.x, part.y) for part in (case.train, case.test))
    analyzer.fit_all_factors("f", train, per_device_batch_size=N, factor_args=factors)
    analyzer.compute_pairwise_scores(
        "s", "f", test, train, per_device_query_batch_size=M, per_device_train_batch_size=N,
        score_args=scores,
    )  # fmt: skip
    return analyzer.load_pairwise_scores("s")["all_modules"].T


def test_ekfac_of_the_empirical_fisher_is_that_of_kronfluence(case, tmp_path):
    found = ekfac_influence(case.gradients, DAMPING, curvature="empirical_fisher")
    torch.testing.assert_close(found, by_kronfluence(case, "ekfac", tmp_path), **CLOSE)


def test_grad_dot_is_kronfluence_without_curvature(case, tmp_path):
    found = grad_dot(case.gradients)
    torch.testing.assert_close(found, by_kronfluence(case, "identity", tmp_path), **CLOSE)


def captum_arguments(case):
    loader = DataLoader(TensorDataset(case.train.x, case.train.y), batch_size=N)
    return {
        "model": case.network,
        "train_dataset": loader,
        "checkpoints_load_func": lambda *_: 1.0,
        "loss_fn": nn.CrossEntropyLoss(reduction="sum"),
        "sample_wise_grads_per_batch": True,
    }


def test_grad_dot_is_captums_tracin_with_one_checkpoint(case):
    found = grad_dot(case.gradients)
    tracin = TracInCP(checkpoints=["only"], **captum_arguments(case))
    torch.testing.assert_close(tracin.influence((case.test.x, case.test.y)).T, found, **CLOSE)


def test_influence_with_the_hessian_is_captums_with_all_eigenvectors(case):
    damping = 2.0
    naive = NaiveInfluenceFunction(
        checkpoint="only", projection_dim=case.gradients.layout.count, hessian_reg=damping * N,
        hessian_inverse_tol=0.0, **captum_arguments(case),
    )  # fmt: skip
    expected = naive.influence((case.test.x, case.test.y)).T * N  # its Hessian is of the sum
    torch.testing.assert_close(hessian_influence(case.gradients, damping), expected, **CLOSE)
