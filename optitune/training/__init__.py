"""One training, which knows nothing of Optuna: from settings to torch's objects (`build`), the loop (`engine`), judging
(`evaluation`), the checks before anything trains (`preflight`), and a training as code to paste (`export_code`).

Public face: `engine.Training`, `build.build_optimizer`, `preflight.check`, `device.resolve_device`,
`export_code.export`.
"""
