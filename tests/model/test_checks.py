"""What people give by mistake is refused in a sentence that names the mend."""

import threading

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

import bayestda as tda

X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
DATA = (X, Y)
ONE = tda.Classification()
RECIPE = tda.Recipe(epochs=1)


class Script(torch.jit.ScriptModule):
    pass


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
        self.lock = threading.Lock()


def build():
    return nn.Linear(3, 3)


def of(networks):
    return tda.Posterior.of_networks(networks)


def scored(posterior=None, objective=ONE, test=DATA):
    posterior = of({0: [build()]}) if posterior is None else posterior
    return tda.attribute(posterior, objective, DATA, test, method="grad_dot")


def trained(make=build, objective=ONE, recipe=RECIPE, seeds=(0,)):
    return tda.train_posterior(make, objective, DATA, recipe, seeds=seeds)


MISTAKES = {
    "a network alone": (lambda: of(build()), "{0: [network]}"),
    "a list of networks": (lambda: of([build()]), "{0: [network]}"),
    "no list of checkpoints": (lambda: of({0: build()}), "{0: [network]}"),
    "a state dict": (lambda: of({0: [build().state_dict()]}), "load_state_dict"),
    "another library's model": (lambda: of({0: [LogisticRegression()]}), "only PyTorch networks"),
    "a script": (lambda: of({0: [Script()]}), "the nn.Module that it was made of"),
    "a lock": (lambda: of({0: [Locked()]}), "keep locks"),
    "parameters to come": (lambda: of({0: [nn.LazyLinear(3)]}), "call it once on a batch"),
    "a network as posterior": (lambda: scored(build()), "Posterior.of_networks({0: [network]})"),
    "the class of posteriors": (lambda: scored(tda.Posterior), "Posterior is no posterior"),
    "a loss module": (lambda: scored(objective=nn.CrossEntropyLoss()), "tda.Classification()"),
    "a loss function": (lambda: scored(objective=F.cross_entropy), "tda.FromLoss(loss)"),
    "the class of objectives": (lambda: scored(objective=tda.Classification), "make one of it"),
    "an instance as build": (lambda: trained(build()), "give a function that makes"),
    "a number as build": (lambda: trained(3), "give a function that makes the network"),
    "build of no network": (lambda: trained(lambda: 3), "no torch.nn.Module"),
    "a number of seeds": (lambda: trained(seeds=3), "range(3)"),
    "no seeds": (lambda: trained(seeds=[]), "range(10)"),
    "a seed twice": (lambda: trained(seeds=[1, 1]), "different whole numbers"),
    "seeds as text": (lambda: trained(seeds="01"), "range(10)"),
    "the class of recipes": (lambda: trained(recipe=tda.Recipe), "tda.Recipe(epochs=20, ...)"),
    "a dict as recipe": (lambda: trained(recipe={"epochs": 1}), "tda.Recipe(epochs=20, ...)"),
    "objective of training": (lambda: trained(objective=F.cross_entropy), "tda.FromLoss(loss)"),
    "inputs of another width": (lambda: scored(test=(X[:, :2], Y)), "give inputs of the shape"),
    "integer features": (lambda: scored(test=(X.long(), Y)), "int64"),
    "retraining of a network": (lambda: tda.leave_one_out(build(), ONE, DATA, DATA),
                                "is no posterior"),
    "further training of a function": (
        lambda: tda.further_train(build, ONE, DATA, DATA, RECIPE), "no torch.nn.Module"),
    "one file": (lambda: tda.Posterior.from_checkpoints(build, {0: "a.safetensors"}), "{seed:"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_its_mend(name):
    ask, mend = MISTAKES[name]
    with pytest.raises(tda.UserError) as error:
        ask()
    assert mend in str(error.value)
    assert "\n" not in str(error.value)
