"""Where studies live: storages by URL (`urls`), what is behind them (`databases`, `journal`, `grpc_proxy`), waiting for
one that is away (`retry`), and the studies in them (`studies`, `listing`).

Public face: `urls.open_storage`, `studies.create_or_resume`, `studies.find`, `listing.overview`.
"""
