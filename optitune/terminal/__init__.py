"""What the terminal shows, for the command line and Python alike: live views of a search, a comparison and a full
training, and tables of studies and registries.

Public face: `search.search_view`, `compare.compare_view`, `study`, `registry`.
"""
