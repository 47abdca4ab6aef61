"""What is drawn is a configuration within its ranges, and known-good settings come out as they are."""

import optuna

from optitune.sampling.parameters import known_good_parameters, spaces, suggest
from optitune.sampling.sampler import FairSampler
from optitune.space import optimizers, schedules
from optitune.study.settings import StudySettings

EVERYTHING = StudySettings(optimizers=tuple(optimizers.OPTIMIZERS), schedules=tuple(schedules.SCHEDULES))


SPACE = EVERYTHING.space()


def test_every_draw_is_a_configuration_within_the_ranges() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(150):
        configuration = suggest(study.ask(), EVERYTHING, SPACE)
        row = optimizers.find(configuration.optimizer.name)
        assert SPACE.optimizers[row.name]["lr"].contains(configuration.lr)
        momentum = configuration.optimizer.settings.get("momentum")
        assert momentum is None or row.ranges["momentum"].contains(momentum)
        seen.add((row.name, configuration.schedule.name))
    assert {name for name, _ in seen} == set(EVERYTHING.optimizers)
    assert {name for _, name in seen} == set(EVERYTHING.schedules)


def test_optimizers_share_the_names_of_their_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        suggest(study.ask(), EVERYTHING, SPACE)
    assert all({"optimizer", "lr_factor"} <= set(trial.params) for trial in study.trials)
    shared = set(SPACE.parameters.values())
    assert {name for trial in study.trials for name in trial.params} <= {"optimizer", "schedule", *shared}
    assert len(shared) < len(SPACE.parameters) / 2
    assert not [name for name in shared if "." in name], "a name of one optimizer alone"


def test_known_good_parameters_come_out_as_the_known_good_settings_exactly() -> None:
    sampler = FairSampler(known_good=known_good_parameters(EVERYTHING), spaces=spaces(EVERYTHING))
    study = optuna.create_study(sampler=sampler)
    configurations = [suggest(study.ask(), EVERYTHING, SPACE) for _ in known_good_parameters(EVERYTHING)]
    rows = list(optimizers.OPTIMIZERS.values())
    wanted = [row.arguments(row.known_good[0]) for row in rows]
    wanted += [row.arguments(values) for row in rows for values in row.known_good[1:]]
    assert [dict(configuration.optimizer.settings) for configuration in configurations] == wanted
