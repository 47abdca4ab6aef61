"""What a worker process sets up for itself: threads and memory."""

import ctypes
import platform

import threadpoolctl
import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), as malloc.h numbers them."""


def configure_worker_process() -> None:
    """Set this process up for training and nothing else: one thread, and freed memory kept for the next step.

    Every step allocates the same few megabytes anew. As glibc is set, it hands them back to the system
    each time and pays a page fault for every 4 KiB of them in the next step, a large part of a small network's step.
    The three settings of mallopt(3) make it keep them; other C libraries are left as they are.
    """
    torch.set_num_threads(1)
    # small matrices, as the pruner has them, are slower by two threads than by one, and take the other worker's core
    threadpoolctl.threadpool_limits(1)
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, megabytes in ((M_TRIM_THRESHOLD, 1024), (M_TOP_PAD, 64), (M_MMAP_THRESHOLD, 32)):
            mallopt(parameter, megabytes * 2**20)
