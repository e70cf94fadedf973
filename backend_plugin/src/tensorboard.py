"""What the TensorBoard callback calls for its ``profile_batch``: traces by torch's profiler.

A trace is a file ``*.pt.trace.json`` in the callback's folder, which TensorBoard's PyTorch plugin
(``torch-tb-profiler``) shows, as do ``chrome://tracing`` and Perfetto. Each launch of a compiled
step stands in it by its kernel's name and Keras layers.
"""

import torch
from torch.profiler import profile, record_function, tensorboard_trace_handler

_running: list[profile] = []


def start_trace(logdir: str) -> None:
    """Profile until ``stop_trace``; an empty logdir asks for a warm-up, which torch needs none of."""
    if logdir:
        profiler = profile(on_trace_ready=tensorboard_trace_handler(logdir))
        profiler.start()
        _running.append(profiler)


def stop_trace(save: bool) -> None:
    """End what ``start_trace`` began, and write the trace into its folder if asked to."""
    while _running:
        profiler = _running.pop()
        if not save:
            profiler.on_trace_ready = None
        elif torch.cuda.is_available():
            torch.cuda.synchronize()  # launches still in the queue would miss the trace
        profiler.stop()


def start_batch_trace(batch: int) -> record_function:
    """A range in the trace, named as torch's plugin names steps; hand it to ``stop_batch_trace``."""
    step = record_function(f"ProfilerStep#{batch}")
    step.__enter__()
    return step


def stop_batch_trace(batch_trace_context: record_function) -> None:
    batch_trace_context.__exit__(None, None, None)
