"""Searches of other packages, held against ours on replayed trainings: one row each.

All have the space that a careful user writes. What they are given of it is in `peer_space.py`. The packages are
imported where they are used: no venv needs them all.

HEBO 0.3.6 asks for numpy below 1.25 but runs with later ones: `pip install --no-deps HEBO disjoint-set pymoo==0.6.0`.
Syne Tune's BOHB imports statsmodels, ASHABORE xgboost, and ASHACQR that and huggingface_hub. SMAC repeats a search only
where PYTHONHASHSEED is set as well.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna

from optitune.sampling.forecast import OPTIMIZER
from scripts.bench.quality.peer_space import Space, quiet, seed_all
from scripts.bench.quality.strategies import Step, Strategy
from scripts.bench.quality.worlds import Parameters, Replayed, World, error, rungs

ETA = 3
"""One of how many configurations goes on from a rung to the next where a peer halves: the default of all that do."""

Tell = Callable[[float], None]


def whole_trainings(
    world: World, epochs: float, seed: int, ask: Callable[[], tuple[Parameters, Tell]]
) -> Iterator[Step]:
    """A search that prunes nothing; it is given the error of every training, of those that diverged the worst."""
    generator = np.random.default_rng((seed, 1))
    spent = 0.0
    while spent < epochs:
        parameters, tell = ask()
        replayed = world.train(parameters, generator)
        value = None if replayed.diverged else replayed.values[-1]
        tell(error(world, value))
        spent += (len(replayed.values) + replayed.diverged) / world.evaluations
        yield Step(spent, parameters, value)


def config_space(space: Space, seed: int) -> Any:
    """As SMAC has it: hyperparameters of some optimizers only are conditions on the optimizer."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition, Integer

    found = ConfigurationSpace(seed=seed)
    found.add(
        space.described(
            lambda key: Float(key, (0.0, 1.0)),
            lambda key, low, high: Integer(key, (low, high)),
            lambda key, options: Categorical(key, options),
        )
    )
    partly = [key for key, owners in space.owners.items() if len(owners) < len(space.optimizers)]
    found.add([InCondition(found[key], found[OPTIMIZER], space.owners[key]) for key in partly])
    return found


def smac_facade(name: str, space: Space, seed: int, folder: str, **scenario: Any) -> Any:
    """One of SMAC3's facades, retraining its random forest for every configuration, as suits long trainings.

    Args:
        name: of the facade.
        folder: for what it writes.
        scenario: what else it is told.
    """
    import smac

    described = smac.Scenario(
        config_space(space, seed), output_directory=Path(folder), deterministic=True, seed=seed, **scenario
    )
    facade = getattr(smac, name)
    model = facade.get_model(described)
    # else a thread per core for each tree of ten, many times a suggestion
    model._rf_opts["n_jobs"] = 1
    selector = facade.get_config_selector(described, retrain_after=1)
    return facade(described, model=model, config_selector=selector, logging_level=False)


def smac(world: World, epochs: float, seed: int) -> Iterator[Step]:
    """SMAC3: a random forest, and conditions."""
    with quiet():
        from smac.runhistory.dataclasses import TrialValue

    space = Space(world, by_range=True)
    with TemporaryDirectory() as folder:
        with quiet():
            # a quarter of the trials at most is drawn before the model
            trials = ceil(epochs / world.epochs)
            facade = smac_facade("HyperparameterOptimizationFacade", space, seed, folder, n_trials=trials)

        def ask() -> tuple[Parameters, Tell]:
            with quiet():
                info = facade.ask()

            def tell(value: float) -> None:
                facade.tell(info, TrialValue(cost=value), save=False)

            return space.parameters(dict(info.config)), tell

        yield from whole_trainings(world, epochs, seed, ask)


def smac_hyperband(world: World, epochs: float, seed: int) -> Iterator[Step]:
    """SMAC3 with Hyperband: what was trained for a smaller budget goes on from there, as from a checkpoint."""
    with quiet():
        from smac.intensifier.hyperband_utils import get_n_trials_for_hyperband_multifidelity
        from smac.runhistory.dataclasses import TrialValue

    space = Space(world, by_range=True)
    generator = np.random.default_rng((seed, 1))
    every, whole = world.evaluations, world.epochs
    with TemporaryDirectory() as folder:
        with quiet():
            trials = get_n_trials_for_hyperband_multifidelity(epochs, 1, whole, eta=ETA, print_summary=False)
            facade = smac_facade(
                "MultiFidelityFacade", space, seed, folder, n_trials=trials, min_budget=1, max_budget=whole
            )
        curves: dict[Any, Replayed] = {}
        trained: dict[Any, int] = {}
        spent = 0.0
        while spent < epochs:
            with quiet():
                info = facade.ask()
            config, parameters = info.config, space.parameters(dict(info.config))
            if config not in curves:
                curves[config], trained[config] = world.train(parameters, generator), 0
            values = curves[config].values
            # budgets are a whole training divided by powers of eta, which seldom ends with an evaluation
            rung = round(info.budget * every)
            at, value = (rung, values[rung - 1]) if rung <= len(values) else (len(values) + 1, None)
            facade.tell(info, TrialValue(cost=error(world, value)), save=False)
            spent += (at - trained[config]) / every
            trained[config] = at
            yield Step(spent, parameters, value if rung == rungs(world) else None)


def ax(world: World, epochs: float, seed: int) -> Iterator[Step]:
    """Ax with the strategy that it chooses itself: the centre, some Sobol points, then a Gaussian process."""
    with quiet():
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        space = Space(world)
        client = Client(random_seed=seed)
        client.configure_experiment(
            parameters=space.described(
                lambda key: RangeParameterConfig(key, (0.0, 1.0), "float"),
                lambda key, low, high: RangeParameterConfig(key, (low, high), "int"),
                lambda key, options: ChoiceParameterConfig(key, options, "str", is_ordered=False),
            )
        )
        client.configure_optimization(objective="-error")

    def ask() -> tuple[Parameters, Tell]:
        with quiet():
            ((index, told),) = client.get_next_trials(max_trials=1).items()

        def tell(value: float) -> None:
            with quiet():
                client.complete_trial(index, raw_data={"error": value})

        return space.parameters(told), tell

    yield from whole_trainings(world, epochs, seed, ask)


def hebo(world: World, epochs: float, seed: int) -> Iterator[Step]:
    """HEBO: a Gaussian process with warped in- and outputs, and an ensemble of acquisitions."""
    with quiet():
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO
        from pymoo.config import Config

        # else pymoo prints a hint at every suggestion
        Config.warnings["not_compiled"] = False
        space = Space(world)
        rows = space.described(
            lambda key: {"name": key, "type": "num", "lb": 0.0, "ub": 1.0},
            lambda key, low, high: {"name": key, "type": "int", "lb": low, "ub": high},
            lambda key, options: {"name": key, "type": "cat", "categories": options},
        )
        search = HEBO(DesignSpace().parse(rows), scramble_seed=seed)
    number = 0

    def ask() -> tuple[Parameters, Tell]:
        nonlocal number
        seed_all(seed, number)
        number += 1
        with quiet():
            told = search.suggest(n_suggestions=1)

        def tell(value: float) -> None:
            with quiet():
                search.observe_new_data(told, np.array([[value]]))

        return space.parameters(told.iloc[0].to_dict()), tell

    yield from whole_trainings(world, epochs, seed, ask)


def syne_tune(scheduler: str, options: Callable[[int], dict[str, Any]] = lambda dimensions: {}) -> Strategy:
    """A scheduler of Syne Tune that halves, driven as its tuner drives it, with one worker.

    Args:
        scheduler: its name among Syne Tune's baselines.
        options: of the scheduler, from the number of hyperparameters.
    """

    def run(world: World, epochs: float, seed: int) -> Iterator[Step]:
        with quiet():
            from syne_tune import config_space
            from syne_tune.backend.trial_status import Trial
            from syne_tune.optimizer import baselines
            from syne_tune.optimizer.scheduler import SchedulerDecision

            space = Space(world)
            rows = space.described(
                lambda key: (key, config_space.uniform(0.0, 1.0)),
                lambda key, low, high: (key, config_space.randint(low, high)),
                lambda key, choices: (key, config_space.choice(choices)),
            )
            search = getattr(baselines, scheduler)(
                config_space=dict(rows),
                metric="error",
                time_attr="epoch",
                max_t=world.epochs,
                reduction_factor=ETA,
                do_minimize=True,
                random_seed=seed,
                **options(len(rows)),
            )
        generator = np.random.default_rng((seed, 1))
        every = world.evaluations
        spent, number = 0.0, 0
        while spent < epochs:
            seed_all(seed, number)
            with quiet():
                told = search.suggest().config
            trial = Trial(number, told, datetime.now())
            number += 1
            search.on_trial_add(trial)
            parameters = space.parameters(told)
            replayed = world.train(parameters, generator)
            value = None
            for epoch in range(1, world.epochs + 1):
                at = epoch * every
                if at > len(replayed.values):
                    # it diverged within this epoch: there is no decision to ask for
                    at = len(replayed.values) + 1
                    search.on_trial_complete(trial, {"error": error(world, None), "epoch": epoch})
                    break
                if epoch == world.epochs:
                    value = replayed.values[-1]
                decision = search.on_trial_result(
                    trial, {"error": error(world, replayed.values[at - 1]), "epoch": epoch}
                )
                if decision == SchedulerDecision.STOP:
                    search.on_trial_remove(trial)
                    break
            spent += at / every
            yield Step(spent, parameters, value)

    return run


def cmaes(world: World, epochs: float, seed: int) -> Iterator[Step]:
    """CMA-ES as Optuna has it, which draws options at random.

    Raises:
        ValueError: several optimizers compete: it needs one numerical space for all trials.
    """
    if len(world.optimizers) > 1:
        raise ValueError(f"CMA-ES searches one optimizer's space, not {', '.join(world.optimizers)}")
    with quiet():
        sampler = optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler)

    def ask() -> tuple[Parameters, Tell]:
        with quiet():
            trial = study.ask()
            parameters = world.suggest(trial, "theirs")

        def tell(value: float) -> None:
            study.tell(trial, value)

        return parameters, tell

    return whole_trainings(world, epochs, seed, ask)


PEERS: dict[str, Strategy] = {
    "smac": smac,
    "smac-hyperband": smac_hyperband,
    "ax": ax,
    "hebo": hebo,
    "syne-tune-asha": syne_tune("ASHA"),
    # what BOHB's authors say; with Syne Tune's own, one less, there is no model before some ninety trials
    "syne-tune-bohb": syne_tune("BOHB", lambda dimensions: {"num_min_data_points": dimensions + 1}),
    "syne-tune-cqr": syne_tune("ASHACQR"),
    "syne-tune-bore": syne_tune("ASHABORE"),
    "cmaes": cmaes,
}
