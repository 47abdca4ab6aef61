"""Workers as actors of a Ray cluster: the cluster, its pool of workers, and what an actor does.

Public face: `pool.RayPool`, `cluster.Cluster`.
"""
